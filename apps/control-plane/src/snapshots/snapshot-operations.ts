import type { TemplateId } from '@aviary/core';
import { Type } from 'typebox';
import type { OperationDefinitions } from '../operations/operation.ts';

const templateId = Type.Unsafe<TemplateId>(Type.String({ pattern: '^[0-9a-f-]{36}$' }));

/** What is done with templates that teams make, and what each kind keeps to be carried out by any replica. */
export const snapshotOperations = {
  snapshot_create: {
    subject: 'template',
    payload: Type.Object({ templateId, replaces: Type.Union([templateId, Type.Null()]), name: Type.String() }),
  },
  snapshot_delete: { subject: 'template', payload: Type.Object({ templateId }) },
} as const satisfies OperationDefinitions;
