import type { OperationId, SandboxId, TeamId } from '@aviary/core';
import type { Db } from '../context.ts';

/** What each kind of operation keeps to be carried out by any replica. */
export interface OperationPayloads {
  create: { envs: Record<string, string> };
  destroy: Record<never, never>;
  pause: { isForced?: boolean };
  resume: { generationId: string | null; isCold?: boolean };
  fork: { targets: SandboxId[]; timeoutSec: number };
  snapshot_create: { templateId: string; replaces: string | null; name: string };
  snapshot_delete: { templateId: string };
}

export type OperationKind = keyof OperationPayloads;

/** An accepted command, as its handler sees it. */
export interface Operation<K extends OperationKind = OperationKind> {
  id: OperationId;
  teamId: TeamId;
  sandboxId: SandboxId | null;
  kind: K;
  payload: OperationPayloads[K];
  createdAt: Date;
}

/** Writes the outcome, in the transaction that ends the operation. */
export type Settle = (db: Db) => Promise<void>;

/** Carries out one kind of operation. Both functions may run again after a crash: agents do the work of an id once. */
export interface OperationHandler<K extends OperationKind> {
  /** How long to go on trying while the host does not answer: an agent that is restarted answers well within it. */
  retryBudgetMs: number;
  run(operation: Operation<K>, signal: AbortSignal): Promise<Settle>;
  /** The outcome when `run` has failed for good. */
  fail(operation: Operation<K>, error: unknown): Promise<Settle>;
}

export type OperationHandlers = { [K in OperationKind]: OperationHandler<K> };
