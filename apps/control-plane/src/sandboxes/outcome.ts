import type { Sandbox } from '@aviary/api-contract';
import {
  AppError,
  asId,
  formatId,
  type HostId,
  must,
  type SandboxId,
  type SandboxTransition,
  sandboxTransitions,
} from '@aviary/core';
import type { UnitOfWork } from '@aviary/database';
import type { SandboxInfo } from '@aviary/proto/hostagent';
import type { Db } from '../context.ts';
import { type AgentDeps, callAgent } from '../hosts/agent-call.ts';
import type { Settlement } from '../operations/operation.ts';
import type { SandboxOperation } from './sandbox-operations.ts';
import { applyToLatest, findSandboxById, type HeardUpTo, type RunFacts, type SandboxRow } from './sandbox-store.ts';
import { viewSandbox } from './sandbox-view.ts';

/** How long an operation goes on trying while its host does not answer. A supervised agent is back well within it. */
export const hostRetryMs = 45_000;

/** The operation's sandbox, whatever its state. */
export async function readSandbox(db: Db, { subject }: SandboxOperation): Promise<SandboxRow> {
  return must(await findSandboxById(db, subject.id), 'sandboxes are never deleted while operations name them');
}

/** How far the host was heard when it gave this answer: events up to there are no news after it. */
export function heardChanges(info: SandboxInfo | undefined): Partial<Pick<RunFacts, 'run' | 'event_sequence'>> {
  return info ? { run: info.run, event_sequence: Number(info.eventSequence) } : {};
}

/** What the host says of a run that has begun. */
export function runFacts(info: SandboxInfo | undefined): Partial<RunFacts> {
  const at = (unixMs: bigint) => (unixMs > 0n ? new Date(Number(unixMs)) : new Date());
  return {
    started_at: at(info?.startedAtUnixMs ?? 0n),
    last_active_at: at(info?.lastActiveAtUnixMs ?? 0n),
    start_path: info?.startPath || null,
    // A cold fallback is a success that the user should know of.
    status_reason: info?.reason || null,
    ...heardChanges(info),
    ...(info?.generationId ? { generation_id: asId('generation', info.generationId) } : {}),
  };
}

/**
 * Writes what an operation made of a sandbox, and answers the sandbox as it left it. When an event of the host or another
 * command was there before, the row stays as they left it; the answer is still this operation's.
 */
export async function moveSandbox(
  { db }: UnitOfWork,
  id: SandboxId,
  { transition, facts = {} }: { transition: SandboxTransition; facts?: Partial<RunFacts> },
): Promise<Sandbox> {
  const moved = await applyToLatest(db, id, { transition, changes: facts });
  if (moved) return viewSandbox(moved);
  const present = must(await findSandboxById(db, id), 'sandboxes are never deleted while operations name them');
  return viewSandbox({ ...present, status_reason: null, ...facts, status: sandboxTransitions[transition].to });
}

/** Writes what a failed operation left of its sandbox; the error's details say it. */
export async function failSandbox(
  { db }: UnitOfWork,
  id: SandboxId,
  {
    transition,
    heard,
    reason,
    failure,
  }: { transition: SandboxTransition; heard?: HeardUpTo; reason: string; failure: AppError },
): Promise<Settlement> {
  await applyToLatest(db, id, { transition, changes: { status_reason: reason, ...heard } });
  const row = must(await findSandboxById(db, id), 'sandboxes are never deleted while operations name them');
  // The client's own ids were found; what a host does not have is no answer to it.
  const code = failure.code === 'not_found' ? 'internal' : failure.code;
  const left = { sandbox_id: formatId('sandbox', id), status: row.status, status_reason: row.status_reason };
  return { state: 'failed', error: new AppError(code, reason, { details: { ...failure.details, ...left } }) };
}

/** The outcome of an operation that found its sandbox deleted, or being deleted, before it had `done` its part. */
export function overtakenByDelete(id: SandboxId, done: string): (unit: UnitOfWork) => Promise<Settlement> {
  return async ({ db }) => {
    const row = must(await findSandboxById(db, id), 'sandboxes are never deleted while operations name them');
    const details = { sandbox_id: formatId('sandbox', id), status: row.status, status_reason: row.status_reason };
    return {
      state: 'superseded',
      error: new AppError('invalid_state', `the sandbox was deleted before it ${done}`, { details }),
    };
  };
}

/**
 * True when a stop has been asked for while the operation started a microVM: nobody else would end it, so this does, with the
 * operation's own id.
 */
export async function endIfStopped(
  deps: AgentDeps & { database: { db: Db } },
  operation: SandboxOperation,
  { sandboxId, hostId, signal }: { sandboxId: SandboxId; hostId: HostId; signal: AbortSignal },
): Promise<boolean> {
  const now = await findSandboxById(deps.database.db, sandboxId);
  if (now !== undefined && now.status !== 'stopping' && now.status !== 'stopped') return false;
  const request = { operationId: operation.id, sandboxId };
  await callAgent(deps, hostId, (client) => client.destroySandbox(request, { signal }));
  return true;
}
