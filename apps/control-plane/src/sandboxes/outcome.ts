import { AppError, asId, type HostId, must, type SandboxId, toAppError } from '@aviary/core';
import type { SandboxInfo } from '@aviary/proto/hostagent';
import type { Db } from '../context.ts';
import { type AgentDeps, callAgent } from '../hosts/agent-call.ts';
import type { Operation } from '../operations/operation.ts';
import { findSandboxById, type SandboxChanges, type SandboxRow } from './sandbox-store.ts';

/** How long an operation goes on trying while its host does not answer. A supervised agent is back well within it. */
export const hostRetryMs = 45_000;

/** The stored reason of a failure: an agent's or our own message, never the internals of an unexpected error. */
export function failureReason(error: unknown): string {
  const { code, message } = toAppError(error);
  return code === 'internal' && !(error instanceof AppError) ? 'it failed on our side' : message;
}

/** The operation's sandbox, whatever its state. */
export async function readSandbox(db: Db, operation: Operation): Promise<SandboxRow> {
  const id = must(operation.sandboxId, `a ${operation.kind} operation names its sandbox`);
  return must(await findSandboxById(db, id), 'sandboxes are never deleted while operations name them');
}

/** What the host says of a run that has begun. */
export function runChanges(info: SandboxInfo | undefined): SandboxChanges {
  const at = (unixMs: bigint) => (unixMs > 0n ? new Date(Number(unixMs)) : new Date());
  return {
    started_at: at(info?.startedAtUnixMs ?? 0n),
    last_active_at: at(info?.lastActiveAtUnixMs ?? 0n),
    start_path: info?.startPath || null,
    // A cold fallback is a success that the user should know of.
    status_reason: info?.reason || null,
    ...(info?.generationId ? { generation_id: asId('generation', info.generationId) } : {}),
  };
}

/**
 * True when a stop has been asked for while the operation started a microVM: nobody else would end it, so this does, with the
 * operation's own id.
 */
export async function endIfStopped(
  deps: AgentDeps & { database: { db: Db } },
  operation: Operation,
  { sandboxId, hostId, signal }: { sandboxId: SandboxId; hostId: HostId; signal: AbortSignal },
): Promise<boolean> {
  const now = await findSandboxById(deps.database.db, sandboxId);
  if (now !== undefined && now.status !== 'stopping' && now.status !== 'stopped') return false;
  const request = { operationId: operation.id, sandboxId };
  await callAgent(deps, hostId, (client) => client.destroySandbox(request, { signal }));
  return true;
}
