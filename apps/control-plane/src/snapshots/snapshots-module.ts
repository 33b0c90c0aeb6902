import type { Module } from '../module.ts';
import { registerOperations } from '../operations/operation-registry.ts';
import { snapshotHandlers } from './run-snapshot.ts';
import { snapshotOperations } from './snapshot-operations.ts';
import { registerSnapshotRoutes } from './snapshot-routes.ts';
import { clearTeamSnapshots } from './team-snapshots.ts';

/** Templates that teams make of their sandboxes. */
export const snapshotsModule: Module = {
  name: 'snapshots',
  routes: registerSnapshotRoutes,
  teamResources: (context) => [{ tables: ['templates'], clear: (teamId) => clearTeamSnapshots(context, teamId) }],
  operations: (context) => registerOperations(snapshotOperations, snapshotHandlers(context)),
};
