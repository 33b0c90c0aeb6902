import type { SandboxId, TeamId } from '@aviary/core';
import type { ServiceContext } from '../context.ts';
import type { HostClient, HostClients } from '../hosts/host-clients.ts';
import { getSandbox, type SandboxRow, stateConflict } from './sandbox-store.ts';

export type DataDeps = Pick<ServiceContext, 'database'> & { hostClients: HostClients };

/** A running sandbox and the client of its host. Throws `not_found`, or `invalid_state` with the present state. */
export async function openRunning(
  { database, hostClients }: DataDeps,
  { teamId, id, verb }: { teamId: TeamId; id: SandboxId; verb: string },
): Promise<{ row: SandboxRow; client: HostClient }> {
  const row = await getSandbox(database.db, teamId, id);
  if (row.status !== 'running') throw stateConflict(row, verb);
  return { row, client: await hostClients.get(row.host_id) };
}
