import { errorText } from '@aviary/core';
import type { SandboxContext } from './sandbox-context.ts';
import type { RunningParts, Sandbox } from './sandbox-registry.ts';

const freezeTimeoutMs = 30_000;

/**
 * Runs `work` while the guest's processes are frozen, its file systems flushed and its vCPUs stopped. When anything throws, or
 * `isGoingOn`, the guest goes on after it.
 */
export async function withStoppedGuest<T>(
  context: SandboxContext,
  sandbox: Sandbox & { running: RunningParts },
  work: () => Promise<T>,
  { isGoingOn = false } = {},
): Promise<T> {
  const { faults } = context;
  const { guest, vm } = sandbox.running;
  let isEnding = false;
  try {
    await guest.freeze({ timeoutMs: freezeTimeoutMs });
    await faults.hit('pause.after-freeze');
    // Kept-alive connections would be dead in every copy of the guest.
    guest.closeConnections();
    await vm.pause();
    await faults.hit('pause.after-stop');
    const result = await work();
    isEnding = !isGoingOn;
    return result;
  } finally {
    if (!isEnding) await letGoOn(context, sandbox);
  }
}

/** Starts a stopped guest and its processes again. A failure is logged, not thrown: it must not hide what went wrong before, or what was saved. */
export async function letGoOn(
  { logger }: SandboxContext,
  { record, running }: Sandbox & { running: RunningParts },
): Promise<void> {
  try {
    await running.vm.resume();
    await running.guest.thaw({ timeoutMs: freezeTimeoutMs });
  } catch (error) {
    logger.error({ sandboxId: record.sandboxId, error: errorText(error) }, 'a stopped guest does not go on');
  }
}
