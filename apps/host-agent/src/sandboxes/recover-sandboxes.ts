import { errorText } from '@aviary/core';
import { GuestClient } from '../guest/guest-client.ts';
import { releaseSandbox } from './destroy-sandbox.ts';
import type { SandboxContext } from './sandbox-context.ts';
import type { SandboxJournal } from './sandbox-journal.ts';
import type { Sandbox } from './sandbox-registry.ts';
import { markLost, watchExit } from './watch-exit.ts';

/**
 * Brings this process and the machine to agree after a restart or a crash, before any command is served: running microVMs are
 * adopted, half-done creates are undone (the control plane asks again), half-done destroys are finished, and what nobody
 * knows is removed.
 */
export async function recoverSandboxes(context: SandboxContext, journal: SandboxJournal): Promise<void> {
  const { registry, logger } = context;
  const records = await journal.readAll((file, error) => logger.error({ file, error: errorText(error) }, 'ignoring a broken sandbox record'));
  for (const record of records) registry.add(record);
  for (const sandbox of registry.list()) await adoptMicroVm(context, sandbox);
  const adopted = registry.list().filter((sandbox) => sandbox.running);
  await context.vmm.removeStrays(new Set(adopted.map((sandbox) => sandbox.record.sandboxId)));
  await context.slots.reclaim(new Set(adopted.map(({ running }) => running?.slot.index ?? 0)));
  for (const sandbox of registry.list()) await settle(context, sandbox);
}

/** Takes the sandbox's microVM over if it still runs. */
async function adoptMicroVm(context: SandboxContext, sandbox: Sandbox): Promise<void> {
  const { record } = sandbox;
  if (!record.vmm || record.slotIndex === undefined) return;
  const vm = await context.vmm.attach(record.vmm);
  if (!vm) return;
  const slot = await context.slots.adopt(record.slotIndex);
  const guest = new GuestClient(slot.hostAddress, { hostToken: record.hostToken, accessToken: record.accessToken });
  sandbox.running = { vm, slot, guest };
}

/** Finishes or undoes what the last agent was doing with the sandbox. */
async function settle(context: SandboxContext, sandbox: Sandbox): Promise<void> {
  const { registry, logger } = context;
  const { record } = sandbox;
  try {
    switch (record.state) {
      case 'starting':
      case 'stopping':
        await releaseSandbox(context, sandbox);
        if (record.state === 'stopping') await registry.events.push('sandbox.stopped', record.sandboxId);
        return;
      case 'running':
        if (sandbox.running) {
          watchExit(context, sandbox, sandbox.running.vm);
          logger.info({ sandboxId: record.sandboxId, pid: record.vmm?.pid }, 'adopted a running microVM');
        } else await markLost(context, sandbox, 'it was gone when the host agent started');
        return;
      default:
        return;
    }
  } catch (error) {
    logger.error({ sandboxId: record.sandboxId, state: record.state, error: errorText(error) }, 'cannot settle a sandbox; its next command will');
  }
}
