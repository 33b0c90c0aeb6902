import { readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { errorText } from '@aviary/core';
import { GuestClient } from '../guest/guest-client.ts';
import type { MicroVm, VmmRecord } from '../vmm/vmm.ts';
import { finishCheckpoint } from './checkpoint-sandbox.ts';
import { releaseSandbox } from './destroy-sandbox.ts';
import { finishCommittedPause, removeRunFiles } from './pause-sandbox.ts';
import { releaseMicroVm } from './release-micro-vm.ts';
import type { SandboxContext } from './sandbox-context.ts';
import type { SandboxJournal } from './sandbox-journal.ts';
import type { RunningParts, Sandbox } from './sandbox-registry.ts';
import { thaw } from './stopped-guest.ts';
import { markLost, watchExit } from './watch-exit.ts';

/**
 * Brings this process and the machine to agree after a restart, a crash or a reboot, before any command is served: running
 * microVMs are adopted; half-done work is finished when its result is durable and undone otherwise (the control plane asks
 * again); what nobody knows is removed.
 */
export async function recoverSandboxes(context: SandboxContext, journal: SandboxJournal): Promise<void> {
  const { registry, vmm, slots, logger } = context;
  let hasBroken = false;
  const records = await journal.readAll((file, error) => {
    hasBroken = true;
    logger.error({ file, error: errorText(error) }, 'ignoring a broken sandbox record');
  });
  const alive = new Map<Sandbox, { vm: MicroVm; slotIndex: number }>();
  for (const record of records) {
    const sandbox = registry.add(record);
    const vm = record.vmm && record.slotIndex !== undefined ? await attach(context, sandbox, record.vmm) : undefined;
    if (vm && record.slotIndex !== undefined) alive.set(sandbox, { vm, slotIndex: record.slotIndex });
  }
  await vmm.removeStrays(new Set([...alive.values()].map(({ vm }) => vm.record.id)));
  await slots.reclaim(new Set([...alive.values()].map(({ slotIndex }) => slotIndex)));
  for (const [sandbox, { vm, slotIndex }] of alive) {
    const slot = await slots.adopt(slotIndex).catch((error: unknown) => {
      logger.error(
        { sandboxId: sandbox.record.sandboxId, slotIndex, error: errorText(error) },
        "a microVM's network slot is gone",
      );
    });
    if (!slot) {
      await vm.kill();
      continue;
    }
    sandbox.running = { vm, slot, guest: new GuestClient(slot.hostAddress, sandbox.record) };
  }
  for (const sandbox of registry.list()) {
    await settle(context, sandbox).catch((error: unknown) => {
      const { sandboxId, state } = sandbox.record;
      logger.error(
        { sandboxId, state, error: errorText(error) },
        'cannot settle a sandbox; delete it, or restart the agent to try again',
      );
    });
  }
  // A record that cannot be read may name any of them.
  if (!hasBroken) await removeStrayDirectories(context);
}

/** Removes directories that no record names: what a crash left of a start before its first record. */
async function removeStrayDirectories({ registry, layout, logger }: SandboxContext): Promise<void> {
  const known = new Set<string>(registry.list().flatMap(({ record }) => [record.sandboxId, record.homeId]));
  for (const name of await readdir(layout.sandboxesDirectory)) {
    if (known.has(name)) continue;
    logger.warn({ directory: name }, 'removing a directory that no sandbox has');
    await rm(path.join(layout.sandboxesDirectory, name), { recursive: true, force: true });
  }
}

/** Finds a sandbox's microVM again. One that runs but does not answer is of no use to anybody: it is left to be removed as a stray. */
async function attach({ vmm, logger }: SandboxContext, { record }: Sandbox, of: VmmRecord) {
  try {
    return await vmm.attach(of);
  } catch (error) {
    logger.error(
      { sandboxId: record.sandboxId, pid: of.pid, error: errorText(error) },
      'a VMM does not answer, ending it',
    );
    return undefined;
  }
}

/** Finishes or undoes what the last agent was doing with the sandbox. */
async function settle(context: SandboxContext, sandbox: Sandbox): Promise<void> {
  const { registry, logger } = context;
  const { record } = sandbox;
  switch (record.state) {
    case 'starting':
      await releaseSandbox(context, sandbox);
      return;
    case 'stopping':
      await releaseSandbox(context, sandbox);
      await registry.events.push('sandbox.stopped', record);
      return;
    case 'running':
      if (!isRunning(sandbox)) return markLost(context, sandbox, 'it was gone when the host agent started');
      if (record.intent?.kind === 'checkpoint') await finishCheckpoint(context, sandbox);
      watchExit(context, sandbox, sandbox.running.vm);
      logger.info({ sandboxId: record.sandboxId, pid: record.vmm?.pid }, 'adopted a running microVM');
      return;
    case 'pausing': {
      if (await finishCommittedPause(context, sandbox)) return;
      if (!isRunning(sandbox)) return markLost(context, sandbox, 'it ended while it was paused');
      await thaw(context, sandbox);
      delete record.intent;
      await registry.save(sandbox, {
        state: 'running',
        reason: 'the last pause was interrupted: the host agent ended',
      });
      watchExit(context, sandbox, sandbox.running.vm);
      return;
    }
    case 'resuming':
      await releaseMicroVm(context, sandbox);
      delete record.intent;
      if (record.generationId === undefined) {
        // It never paused: its disk is all that it has.
        await registry.save(sandbox, {
          state: 'error',
          reason: 'the last start was interrupted: the host agent ended',
        });
        return;
      }
      await removeRunFiles(context, sandbox);
      await registry.save(sandbox, {
        state: 'paused',
        reason: 'the last resume was interrupted: the host agent ended',
      });
      return;
    case 'paused':
      await finishCommittedPause(context, sandbox);
      return;
    case 'error':
      return;
  }
}

function isRunning(sandbox: Sandbox): sandbox is Sandbox & { running: RunningParts } {
  return sandbox.running !== undefined;
}
