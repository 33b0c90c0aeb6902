import { AppError, type UserId } from '@aviary/core';
import { runLoop } from '@aviary/service-kit';
import type { ControlPlaneContext } from '../module.ts';
import { pauseSandbox } from '../sandboxes/pause-sandbox.ts';
import { endPausing, listBusyOfOnlyMember, listPausing } from './admin-store.ts';

const intervalMs = 15_000;
/** So long what runs for a deactivated person alone is paused: a host that is away may be back by then. */
export const pausingMs = 24 * 3_600_000;
/** People who are looked at in one round. */
const batch = 100;
/** Nobody in particular: who deactivated the person is in the entry that says so. */
const actor = { type: 'system', id: null, name: 'deactivation' } as const;

type Deps = Pick<ControlPlaneContext, 'database' | 'clock' | 'logger' | 'runner'>;

/** Pauses what runs for deactivated people alone, until nothing does. That they are to be paused is in the database: no crash forgets it. */
export function runPausing(deps: Deps, signal: AbortSignal): Promise<void> {
  const { clock, logger } = deps;
  return runLoop({ name: 'pause-deactivated', intervalMs, clock, logger }, () => pauseDeactivated(deps), signal);
}

/** One round. */
export async function pauseDeactivated(deps: Deps): Promise<void> {
  const { database, clock, logger } = deps;
  for (const user of await listPausing(database.db, batch)) {
    try {
      const isOver = user.pause_until.getTime() <= clock.now();
      if (isOver) logger.warn({ userId: user.id }, 'something may still run for a deactivated person alone');
      if (isOver || (await pauseOwn(deps, user.id))) await endPausing(database.db, user);
    } catch (error) {
      logger.warn({ userId: user.id, err: error }, 'what runs for a deactivated person is not paused yet');
    }
  }
}

/** Begins to pause what runs for nobody else; true when nothing does, or will. */
async function pauseOwn(deps: Deps, userId: UserId): Promise<boolean> {
  const busy = await listBusyOfOnlyMember(deps.database.db, userId);
  for (const { id, team_id: teamId, status } of busy) {
    if (status !== 'running') continue;
    await pauseSandbox(deps, { teamId, actor }, { sandboxId: id, isForced: false }).catch((error: unknown) => {
      // Somebody was there before: it is paused, or gone.
      if (!(error instanceof AppError && error.code === 'invalid_state')) throw error;
    });
  }
  return busy.length === 0;
}
