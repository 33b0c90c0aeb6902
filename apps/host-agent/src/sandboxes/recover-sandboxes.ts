import { readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { errorText } from '@aviary/core';
import type { SandboxJournal } from '../registry/sandbox-journal.ts';
import { launchOf } from '../registry/sandbox-record.ts';
import { isRunningSandbox, type Sandbox, subjectOf } from '../registry/sandbox-registry.ts';
import { thaw } from '../saving/stopped-guest.ts';
import { releaseMicroVm } from '../starts/release-micro-vm.ts';
import { releaseSandbox } from '../starts/release-sandbox.ts';
import type { StartDeps } from '../starts/start-deps.ts';
import type { MicroVm, VmmRecord } from '../vmm/vmm.ts';
import { finishCheckpoint } from './checkpoint-sandbox.ts';
import { finishCommittedPause, type PauseDeps, removeRunFiles } from './pause-sandbox.ts';
import { markLost, watchExit } from './watch-exit.ts';

type Deps = StartDeps & PauseDeps;

/**
 * Brings this process and the machine to agree after a restart, a crash or a reboot, before any command is served: running
 * microVMs are adopted; half-done work is finished when its result is durable and undone otherwise (the control plane asks
 * again); what nobody knows is removed.
 */
export async function recoverSandboxes(deps: Deps, journal: Pick<SandboxJournal, 'readAll'>): Promise<void> {
  const { registry, vmm, slots, logger } = deps;
  let hasBroken = false;
  const records = await journal.readAll((file, error) => {
    hasBroken = true;
    logger.error({ file, error: errorText(error) }, 'ignoring a broken sandbox record');
  });
  const alive = new Map<Sandbox, { vm: MicroVm; slotIndex: number }>();
  for (const record of records) {
    const sandbox = registry.add(record);
    const { run } = launchOf(record);
    const vm = run && (await attach(deps, sandbox, run.vmm));
    if (run && vm) alive.set(sandbox, { vm, slotIndex: run.slotIndex });
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
    sandbox.running = { vm, slot, guest: deps.connectGuest(slot.hostAddress, sandbox.record) };
  }
  for (const sandbox of registry.list()) {
    await settle(deps, sandbox).catch((error: unknown) => {
      const { sandboxId, state } = sandbox.record;
      logger.error(
        { sandboxId, state, error: errorText(error) },
        'cannot settle a sandbox; delete it, or restart the agent to try again',
      );
    });
  }
  // A record that cannot be read may name any of them.
  if (!hasBroken) await removeStrayDirectories(deps);
}

/** Removes directories that no record names: what a crash left of a start before its first record. */
async function removeStrayDirectories({
  registry,
  layout,
  logger,
}: Pick<StartDeps, 'registry' | 'layout' | 'logger'>): Promise<void> {
  const known = new Set<string>(
    registry.list().flatMap(({ record }) => [record.sandboxId, launchOf(record).runDirectoryId]),
  );
  for (const name of await readdir(layout.sandboxesDirectory)) {
    if (known.has(name)) continue;
    logger.warn({ directory: name }, 'removing a directory that no sandbox has');
    await rm(path.join(layout.sandboxesDirectory, name), { recursive: true, force: true });
  }
}

/** Finds a sandbox's microVM again. One that runs but does not answer is of no use to anybody: it is left to be removed as a stray. */
async function attach({ vmm, logger }: Pick<StartDeps, 'vmm' | 'logger'>, { record }: Sandbox, of: VmmRecord) {
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
async function settle(deps: Deps, sandbox: Sandbox): Promise<void> {
  const { registry, logger } = deps;
  const { record } = sandbox;
  const { sandboxId } = record;
  switch (record.state) {
    case 'starting':
      await releaseSandbox(deps, sandbox);
      return;
    case 'stopping':
      await releaseSandbox(deps, sandbox);
      await registry.events.push('sandbox.stopped', subjectOf(sandbox));
      return;
    case 'running':
      if (!isRunningSandbox(sandbox)) return markLost(deps, sandbox, 'it was gone when the host agent started');
      if (record.checkpoint) await finishCheckpoint(deps, sandbox, record.checkpoint.generationId);
      watchExit(deps, sandbox);
      logger.info({ sandboxId, pid: record.run.vmm.pid }, 'adopted a running microVM');
      return;
    case 'pausing': {
      if (await finishCommittedPause(deps, sandbox)) return;
      const { running } = sandbox;
      if (!running) return markLost(deps, sandbox, 'it ended while it was paused');
      await thaw(deps, { record, running });
      const reason = 'the last pause was interrupted: the host agent ended';
      await registry.transition(sandbox, { kind: 'pause_failed', reason, isInterrupted: true });
      watchExit(deps, sandbox);
      return;
    }
    case 'resuming': {
      await releaseMicroVm(deps, sandbox);
      // One that never paused has its disk, and nothing else.
      if (record.back.state === 'paused') await removeRunFiles(deps, sandbox);
      const reason = 'the last resume was interrupted: the host agent ended';
      await registry.transition(sandbox, { kind: 'resume_failed', reason, isInterrupted: true });
      return;
    }
    case 'paused':
      await finishCommittedPause(deps, sandbox);
      return;
    case 'error':
      return;
  }
}
