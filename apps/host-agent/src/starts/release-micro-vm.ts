import { rm } from 'node:fs/promises';
import { AppError, errorText } from '@aviary/core';
import type { RunEnd } from '../guest/attached-commands.ts';
import type { NetworkSlot } from '../network/network-slot.ts';
import { launchOf, type SandboxRecord } from '../registry/sandbox-record.ts';
import type { Sandbox } from '../registry/sandbox-registry.ts';
import type { StartDeps } from './start-deps.ts';

export type ReleaseDeps = Pick<StartDeps, 'vmm' | 'slots' | 'layout' | 'logger'>;

/** What the followers of its commands are told. */
function runEndOf({ state }: SandboxRecord): RunEnd {
  if (state === 'stopping') return 'deleted';
  return state === 'paused' || state === 'pausing' ? 'paused' : 'lost';
}

/**
 * Frees what a run holds: VMM, connections, slot, sockets. The disk layer, the memory file and the journal record stay. Tries
 * every step and joins the errors.
 */
export async function releaseMicroVm(
  { vmm, slots, layout, logger }: ReleaseDeps,
  sandbox: Sandbox,
  { slot }: { slot?: NetworkSlot } = {},
): Promise<void> {
  const { running } = sandbox;
  const { run, runDirectoryId } = launchOf(sandbox.record);
  const failures: unknown[] = [];
  const attempt = async (step: () => Promise<unknown>) => {
    await step().catch((error: unknown) => failures.push(error));
  };
  delete sandbox.running;
  if (running) {
    running.guest.attached.endAll(runEndOf(sandbox.record));
    await attempt(() => running.vm.kill());
    running.guest[Symbol.dispose]();
  } else if (run) {
    await attempt(async () => (await vmm.attach(run.vmm))?.kill());
  }
  const held = slot ?? running?.slot;
  // A slot whose VMM may still run is not given to anybody else.
  if (held && failures.length === 0) {
    // Not awaited: taking it apart takes longer than all the rest. The pool gives it to nobody before, and finishes it before it stops.
    slots.release(held).catch((error: unknown) => {
      logger.warn(
        { slotIndex: held.index, error: errorText(error) },
        'cannot take a network slot apart; the next start of the agent will',
      );
    });
  }
  await attempt(() => rm(layout.sandboxRun(runDirectoryId), { recursive: true, force: true }));
  if (failures.length > 0) {
    throw new AppError('internal', `cannot release the microVM: ${failures.map(errorText).join('; ')}`, {
      cause: new AggregateError(failures),
    });
  }
}
