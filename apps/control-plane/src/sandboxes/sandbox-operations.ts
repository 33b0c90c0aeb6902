import type { SandboxId } from '@aviary/core';
import { type Static, Type } from 'typebox';
import type { OperationDefinitions, OperationHandler, OperationOf } from '../operations/operation.ts';

const sandboxId = Type.Unsafe<SandboxId>(Type.String({ pattern: '^[0-9a-f-]{36}$' }));

/** What is done with sandboxes, and what each kind keeps to be carried out by any replica. */
export const sandboxOperations = {
  create: { subject: 'sandbox', payload: Type.Object({ envs: Type.Record(Type.String(), Type.String()) }) },
  destroy: { subject: 'sandbox', payload: Type.Object({}) },
  pause: { subject: 'sandbox', payload: Type.Object({ isForced: Type.Optional(Type.Boolean()) }) },
  /** From the latest generation when none is named; a rewind names one. */
  resume: {
    subject: 'sandbox',
    payload: Type.Object({
      generationId: Type.Union([Type.String(), Type.Null()]),
      isCold: Type.Optional(Type.Boolean()),
    }),
  },
  /** The subject is the source. */
  fork: { subject: 'sandbox', payload: Type.Object({ targets: Type.Array(sandboxId), timeoutSec: Type.Integer() }) },
} as const satisfies OperationDefinitions;

type Kind = keyof typeof sandboxOperations;

/** One step of a sandbox's life, as a command asks for it. */
export type SandboxStep = {
  [K in Kind]: { kind: K; payload: Static<(typeof sandboxOperations)[K]['payload']> };
}[Kind];

export type SandboxOperation<K extends Kind = Kind> = OperationOf<typeof sandboxOperations, K>;
export type SandboxOperationHandler<K extends Kind> = OperationHandler<SandboxOperation<K>>;
