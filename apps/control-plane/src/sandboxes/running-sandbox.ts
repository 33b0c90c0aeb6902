import { canSandbox, type SandboxActionName, type SandboxId, type TeamId } from '@aviary/core';
import type { ServiceContext } from '../context.ts';
import type { HostClient, HostClients } from '../hosts/host-clients.ts';
import { noSuchSandbox, stateConflict } from './sandbox-store.ts';

export type DataDeps = Pick<ServiceContext, 'database'> & { hostClients: HostClients };

/** The client of the host that a running sandbox is on, found in one query. Throws `not_found`, or `invalid_state` with the present state. */
export async function openRunning(
  { database: { db }, hostClients }: DataDeps,
  { teamId, id, action }: { teamId: TeamId; id: SandboxId; action: SandboxActionName },
): Promise<HostClient> {
  const row = await db
    .selectFrom('sandboxes')
    .innerJoin('hosts', 'hosts.id', 'sandboxes.host_id')
    .select(['sandboxes.id', 'sandboxes.status', 'status_reason', 'host_id', 'address', 'epoch'])
    .where('sandboxes.id', '=', id)
    .where('sandboxes.team_id', '=', teamId)
    .executeTakeFirst();
  if (!row) throw noSuchSandbox();
  if (!canSandbox(action, row.status)) throw stateConflict(row, action);
  return hostClients.of({ id: row.host_id, address: row.address, epoch: row.epoch });
}
