import { AppError, errorText, type SandboxId } from '@aviary/core';
import { type FaultPoints, hostDiskFull, type Logger, withDeadline } from '@aviary/service-kit';
import type { GuestClient } from '../guest/guest-client.ts';
import { phase } from '../phases.ts';
import type { MicroVm } from '../vmm/vmm.ts';

/** Longest that a guest may take to freeze: it flushes its file systems, and disks are slow. */
const defaultFreezeTimeoutMs = 30_000;
const thawTimeoutMs = 30_000;
/** The same for a guest that is stopped whether it answers or not, and for one that has just not answered. */
const hungGuestTimeoutMs = 10_000;
/** Longest that a VMM may take to stop the vCPUs of such a guest before it is killed. */
const hardStopTimeoutMs = 15_000;

/**
 * How a guest was stopped. `frozen`: its processes stand still and its file systems are flushed, so that all of it can be saved.
 * `halted`: without its help; its disk is as after a power cut, and its memory is that of an agent that would not answer after a
 * restore either. `killed`: the same, and its VMM is gone.
 */
export type GuestStop = 'frozen' | 'halted' | 'killed';

interface Deps {
  faults: FaultPoints;
  logger: Logger;
}

/** What stopping and starting a guest needs of a running sandbox. */
export interface StoppableSandbox {
  record: { readonly sandboxId: SandboxId };
  running: {
    vm: Pick<MicroVm, 'isOutOfSpace' | 'pause' | 'resume' | 'kill'>;
    guest: Pick<GuestClient, 'freeze' | 'thaw' | 'closeConnections' | 'closeIdleConnections'>;
  };
}

export interface StopOptions {
  /** The guest goes on after the work. */
  isGoingOn?: boolean;
  /** A guest that does not freeze is stopped all the same. */
  isForced?: boolean;
  /** By default what a slow disk may need, or a few seconds when forced. */
  freezeTimeoutMs?: number;
}

/**
 * Runs `work` while the guest's processes are frozen, its file systems flushed and its vCPUs stopped. When anything throws, or
 * `isGoingOn`, the guest goes on after it. `isForced`: a guest that does not freeze is stopped all the same, and `work` is told.
 */
export async function withStoppedGuest<T>(
  deps: Deps,
  sandbox: StoppableSandbox,
  work: (stop: GuestStop) => Promise<T>,
  { isGoingOn = false, isForced = false, freezeTimeoutMs }: StopOptions = {},
): Promise<T> {
  const { faults } = deps;
  const { guest, vm } = sandbox.running;
  let isEnding = false;
  // Its vCPUs stand still: it could not answer.
  if (vm.isOutOfSpace && !isForced) throw hostDiskFull('save the sandbox, whose guest waits for space');
  let isAnswering = false;
  try {
    const timeoutMs = freezeTimeoutMs ?? (isForced ? hungGuestTimeoutMs : defaultFreezeTimeoutMs);
    isAnswering = await phase('freeze', () => freeze(deps, sandbox, { isForced, timeoutMs }));
    await faults.hit('pause.after-freeze');
    // Connections are dead in every copy of the guest. A guest that goes on keeps those in use: what they carry goes on with it.
    if (isGoingOn) guest.closeIdleConnections();
    else guest.closeConnections();
    let stop: GuestStop = 'frozen';
    if (isAnswering) await phase('stop', () => vm.pause());
    else stop = await phase('stop', () => stopHard(deps, sandbox));
    await faults.hit('pause.after-stop');
    const result = await phase('save', () => work(stop));
    isEnding = !isGoingOn;
    return result;
  } finally {
    if (!isEnding) await phase('thaw', () => thaw(deps, sandbox, isAnswering ? thawTimeoutMs : hungGuestTimeoutMs));
  }
}

/** False when the guest did not freeze and is to be stopped all the same. */
async function freeze(
  { logger }: Deps,
  { record: { sandboxId }, running }: StoppableSandbox,
  { isForced, timeoutMs }: { isForced: boolean; timeoutMs: number },
): Promise<boolean> {
  try {
    await running.guest.freeze({ timeoutMs });
    return true;
  } catch (error) {
    if (!isForced && running.vm.isOutOfSpace)
      throw hostDiskFull('save the sandbox, whose guest waits for space', error);
    if (!isForced) throw unfrozen(error);
    logger.warn({ sandboxId, error: errorText(error) }, 'a guest does not freeze, stopping it hard');
    return false;
  }
}

/** Why a guest cannot be frozen, and what can be done. What one that answers says of itself stands; anything else is silence. */
function unfrozen(error: unknown): AppError {
  const isAnswer = error instanceof AppError && error.code !== 'deadline_exceeded';
  return new AppError(
    isAnswer ? error.code : 'guest_unavailable',
    `cannot freeze the guest: ${isAnswer ? error.message : 'its agent does not answer'}; pause with force to stop it hard and keep its disk`,
    { cause: error },
  );
}

/** Stops a guest without its help. A VMM that does not do it in time is killed: what it wrote is in the layer's file. */
async function stopHard(
  { logger }: Deps,
  { record: { sandboxId }, running: { vm } }: StoppableSandbox,
): Promise<GuestStop> {
  try {
    await withDeadline({ what: 'stopping the vCPUs', timeoutMs: hardStopTimeoutMs }, () => vm.pause());
    return 'halted';
  } catch (error) {
    logger.warn({ sandboxId, error: errorText(error) }, 'a VMM does not stop its guest, killing it');
    await vm.kill();
    return 'killed';
  }
}

/** Starts a stopped guest and its processes again. A failure is logged, not thrown: it must not hide what went wrong before, or what was saved. */
export async function thaw(
  { logger }: Deps,
  { record, running }: StoppableSandbox,
  timeoutMs = thawTimeoutMs,
): Promise<void> {
  try {
    await running.vm.resume();
    await running.guest.thaw({ timeoutMs });
  } catch (error) {
    logger.error({ sandboxId: record.sandboxId, error: errorText(error) }, 'a stopped guest does not go on');
  }
}
