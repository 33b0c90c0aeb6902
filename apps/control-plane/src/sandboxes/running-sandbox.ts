import { canSandbox, type SandboxActionName, type SandboxId, type TeamId } from '@aviary/core';
import type { ServiceContext } from '../context.ts';
import type { HostClient, HostClients } from '../hosts/host-clients.ts';
import type { IdempotencyKeys } from '../idempotency/idempotency-keys.ts';
import { findSandboxOnHost, noSuchSandbox, stateConflict } from './sandbox-store.ts';

export type DataDeps = Pick<ServiceContext, 'database'> & { hostClients: HostClients; idempotency: IdempotencyKeys };

/** The client of the host that a running sandbox is on, found in one query. Throws `not_found`, or `invalid_state` with the present state. */
export async function openRunning(
  { database: { db }, hostClients }: DataDeps,
  { teamId, id, action }: { teamId: TeamId; id: SandboxId; action: SandboxActionName },
): Promise<HostClient> {
  const row = await findSandboxOnHost(db, teamId, id);
  if (!row) throw noSuchSandbox();
  if (!canSandbox(action, row.status)) throw stateConflict(row, action);
  return hostClients.of({ id: row.host_id, address: row.address, epoch: row.epoch });
}
