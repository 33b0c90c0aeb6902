import type { ControlPlaneContext } from '../module.ts';
import { deleteSandbox } from './delete-sandbox.ts';
import { listSandboxes } from './sandbox-store.ts';

/** Sandboxes of a deleted team whose deletion is begun in one look. */
const batch = 100;

/** Nobody in particular: whoever deleted the team is in the entry that says so. */
const actor = { type: 'system', id: null, name: 'team deletion' } as const;

/**
 * What becomes of a deleted team's sandboxes: all are stopped for good, whatever they do. A sandbox whose host is away is stopped in the
 * database, and what the host still has of it is destroyed by the reconciler when the host is back.
 */
export async function clearTeamSandboxes(
  context: Pick<ControlPlaneContext, 'database' | 'runner'>,
  teamId: Parameters<typeof listSandboxes>[1]['teamId'],
): Promise<boolean> {
  const left = await listSandboxes(context.database.db, { teamId, limit: batch });
  for (const row of left) if (row.status !== 'stopping') await deleteSandbox(context, { teamId, actor }, row.id);
  return left.length === 0;
}
