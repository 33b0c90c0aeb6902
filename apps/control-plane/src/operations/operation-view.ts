import type { Operation } from '@aviary/api-contract';
import { formatId, type IdKind } from '@aviary/core';
import type { OperationRow } from './operation-store.ts';

const idKinds = { sandbox: 'sandbox', template: 'template', host: 'host' } as const satisfies Record<
  OperationRow['subject_type'],
  IdKind
>;

/** An operation as the API shows it. */
export function viewOperation(row: OperationRow): Operation {
  return {
    id: formatId('operation', row.id),
    kind: row.kind,
    // The store holds ids of every kind in one column.
    subject: { type: row.subject_type, id: formatId(idKinds[row.subject_type], row.subject_id as never) },
    sandbox_id: row.sandbox_id && formatId('sandbox', row.sandbox_id),
    state: row.state,
    error: row.error && { code: row.error.code, message: row.error.message, details: row.error.details ?? {} },
    phases: row.phases,
    request_id: row.request_id,
    attempts: row.attempts,
    created_at: row.created_at.toISOString(),
    finished_at: row.finished_at?.toISOString() ?? null,
  };
}
