import path from 'node:path';
import type { Extension } from '@aviary/control-plane';
import { runLoop } from '@aviary/service-kit';
import { registerUsageRoutes } from './usage-routes.ts';
import { deleteOldRuns, deleteRunsOf, endRun, startRun } from './usage-store.ts';

export interface UsageMeterOptions {
  /** For how many days a run is told after its end. Default 400. */
  keptDays?: number;
}

const clearMs = 3600_000;

/** Meters how long the sandboxes of each team run, from when it is there. */
export const usageMeter = ({ keptDays = 400 }: UsageMeterOptions = {}): Extension => ({
  name: 'usage-meter',
  migrations: path.join(import.meta.dirname, '../migrations'),
  routes: registerUsageRoutes,
  hooks: ({ database: { db } }) => ({
    // An event may be told again: starting a run twice at one moment, or ending one that has ended, changes nothing.
    async onSandboxEvent({ sandboxId, payload, at }) {
      if (sandboxId === null) return;
      if (payload['status'] === 'running') await startRun(db, sandboxId, at);
      else if (payload['status'] !== 'pausing') await endRun(db, sandboxId, at);
    },
  }),
  loops: ({ database: { db }, clock, logger }) => [
    (signal) =>
      runLoop(
        { name: 'usage-meter', intervalMs: clearMs, clock, logger },
        () => deleteOldRuns(db, new Date(clock.now() - keptDays * 24 * 3600_000)),
        signal,
      ),
  ],
  teamResources: ({ database: { db } }) => [
    {
      tables: ['usage_runs'],
      async clear(teamId) {
        await deleteRunsOf(db, teamId);
        return true;
      },
    },
  ],
});
