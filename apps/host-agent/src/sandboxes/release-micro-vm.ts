import { rm } from 'node:fs/promises';
import { AppError, errorText } from '@aviary/core';
import type { RunEnd } from '../guest/attached-commands.ts';
import type { NetworkSlot } from '../network/network-slot.ts';
import type { SandboxContext } from './sandbox-context.ts';
import type { SandboxRecord } from './sandbox-record.ts';
import type { Sandbox } from './sandbox-registry.ts';

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
  context: SandboxContext,
  sandbox: Sandbox,
  { slot }: { slot?: NetworkSlot } = {},
): Promise<void> {
  const { record, running } = sandbox;
  const failures: unknown[] = [];
  const attempt = async (step: () => Promise<unknown>) => {
    await step().catch((error: unknown) => failures.push(error));
  };
  delete sandbox.running;
  if (running) {
    running.guest.attached.endAll(runEndOf(record));
    await attempt(() => running.vm.kill());
    running.guest[Symbol.dispose]();
  } else if (record.vmm) {
    const { vmm } = record;
    await attempt(async () => (await context.vmm.attach(vmm))?.kill());
  }
  const held = slot ?? running?.slot;
  // A slot whose VMM may still run is not given to anybody else.
  if (held && failures.length === 0) {
    // Not awaited: taking it apart takes longer than all the rest. The pool gives it to nobody before, and finishes it before it stops.
    context.slots.release(held).catch((error: unknown) => {
      context.logger.warn(
        { slotIndex: held.index, error: errorText(error) },
        'cannot take a network slot apart; the next start of the agent will',
      );
    });
  }
  await attempt(() => rm(context.layout.sandboxRun(record.homeId), { recursive: true, force: true }));
  if (failures.length > 0) {
    throw new AppError('internal', `cannot release the microVM: ${failures.map(errorText).join('; ')}`, {
      cause: new AggregateError(failures),
    });
  }
  delete record.slotIndex;
  delete record.vmm;
}
