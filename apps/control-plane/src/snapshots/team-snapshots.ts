import { AppError, type TeamId } from '@aviary/core';
import type { ControlPlaneContext } from '../module.ts';
import { listOwnTemplates } from '../templates/template-store.ts';
import { deleteSnapshot } from './delete-snapshot.ts';

/** Snapshots of a deleted team whose deletion is begun in one look. */
const batch = 100;

const actor = { type: 'system', id: null, name: 'team deletion' } as const;

/** What becomes of a deleted team's snapshots: their files go from their hosts. Where that fails, the next look begins it anew. */
export async function clearTeamSnapshots(
  context: Pick<ControlPlaneContext, 'database' | 'runner'>,
  teamId: TeamId,
): Promise<boolean> {
  const left = await listOwnTemplates(context.database.db, { teamId, limit: batch });
  for (const { name, status } of left) {
    if (status === 'deleting') continue;
    try {
      await deleteSnapshot(context, { teamId, actor }, name);
    } catch (error) {
      // It is being made, or was deleted just now.
      if (!(error instanceof AppError && ['invalid_state', 'not_found'].includes(error.code))) throw error;
    }
  }
  return left.length === 0;
}
