import type { Module } from '../module.ts';
import { registerOperations } from '../operations/operation-registry.ts';
import { snapshotHandlers } from './run-snapshot.ts';
import { snapshotOperations } from './snapshot-operations.ts';
import { registerSnapshotRoutes } from './snapshot-routes.ts';

/** Templates that teams make of their sandboxes. */
export const snapshotsModule: Module = {
  name: 'snapshots',
  routes: registerSnapshotRoutes,
  operations: (context) => registerOperations(snapshotOperations, snapshotHandlers(context)),
};
