import { canSandbox, type SandboxActionName, type SandboxId, type TeamId } from '@aviary/core';
import type { ServiceContext } from '../context.ts';
import type { HostClient, HostClients } from '../hosts/host-clients.ts';
import type { IdempotencyKeys } from '../idempotency/idempotency-keys.ts';
import { findSandboxOnHost, noSuchSandbox, stateConflict, touchSandbox } from './sandbox-store.ts';

export type DataDeps = Pick<ServiceContext, 'database'> & { hostClients: HostClients; idempotency: IdempotencyKeys };

/** What somebody does with a sandbox that puts off its auto-pause. */
export type UserActivity = 'exec' | 'stream' | 'files' | 'ping';

/**
 * The client of the host that a running sandbox is on, found in one query. With `activity`, the sandbox is noted as used now. Throws
 * `not_found`, or `invalid_state` with the present state.
 */
export async function openRunning(
  deps: DataDeps,
  {
    teamId,
    id,
    action,
    activity,
  }: { teamId: TeamId; id: SandboxId; action: SandboxActionName; activity?: UserActivity },
): Promise<HostClient> {
  const row = await findSandboxOnHost(deps.database.db, teamId, id);
  if (!row) throw noSuchSandbox();
  if (!canSandbox(action, row.status)) throw stateConflict(row, action);
  const client = deps.hostClients.of({ id: row.host_id, address: row.address, epoch: row.epoch });
  if (activity && !(row.isNoted && row.last_activity === activity)) await noteActivity(deps, id, activity);
  return client;
}

/** Notes that a sandbox is used now: at the start, and for what takes its time at the end. */
export async function noteActivity(
  { database: { db } }: Pick<DataDeps, 'database'>,
  id: SandboxId,
  activity: UserActivity,
): Promise<void> {
  await touchSandbox(db, id, activity);
}
