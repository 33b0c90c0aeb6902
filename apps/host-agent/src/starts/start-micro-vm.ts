import { randomBytes } from 'node:crypto';
import { chown, mkdir, open, rm } from 'node:fs/promises';
import path from 'node:path';
import { AppError, asId, errorText, type GenerationId, newId, type SandboxId, sandboxHostLabel } from '@aviary/core';
import { allDone } from '@aviary/service-kit';
import type { DiskLayer } from '../disk/disk-store.ts';
import type { OpenedGeneration } from '../generations/generation-reader.ts';
import { requireKnownLayers } from '../generations/known-layers.ts';
import type { GuestClient } from '../guest/guest-client.ts';
import { sha256Hex } from '../guest/proven-agent.ts';
import type { NetworkSlot } from '../network/network-slot.ts';
import { phase } from '../phases.ts';
import type { Run, SandboxFacts } from '../registry/sandbox-record.ts';
import { launchOf } from '../registry/sandbox-record.ts';
import type { RunningParts, Sandbox } from '../registry/sandbox-registry.ts';
import { lastOutputOf, withLastOutput } from '../vmm/last-output.ts';
import type { MachineSpec, MicroVm } from '../vmm/vmm.ts';
import { vmmGid } from '../vmm/vmm-group.ts';
import { releaseMicroVm } from './release-micro-vm.ts';
import type { StartDeps } from './start-deps.ts';

/** Longest a guest may take from power-on to its agent's first answer. Software CPUs on a busy machine are slow. */
const bootTimeoutMs = 180_000;
/** Longest a restored guest may take to its first answer. */
const restoreTimeoutMs = 60_000;
const startTimeoutMs = 60_000;
const bootInitTimeoutMs = 30_000;

/** A new secret of 256 bits, hex. */
export function newToken(): string {
  return randomBytes(32).toString('hex');
}

/**
 * Boots a microVM for `sandbox` from its kernel, with a new disk layer on `base`, and waits until its guest has its identity. On any
 * failure everything taken is released again and the error is thrown. Under the sandbox's lock.
 */
export async function bootMicroVm(
  deps: StartDeps,
  sandbox: Sandbox,
  base: DiskLayer,
  { diskGenerationId }: { diskGenerationId?: GenerationId } = {},
): Promise<void> {
  const { vmm, images, layout, faults, generations } = deps;
  using _held = diskGenerationId === undefined ? undefined : generations.hold({ generationId: diskGenerationId });
  await startInSlot(deps, sandbox, { base, diskGenerationId }, async (place) => {
    const { record } = sandbox;
    const memoryPath = layout.sandboxMemory(place.runDirectoryId);
    await createMemoryFile(memoryPath, place.slot.uid);
    const spec = machineSpec(deps, record, { ...place, memoryPath, toolboxPath: images.toolbox.path });
    const vm = await phase('boot', () => vmm.boot(spec, AbortSignal.timeout(startTimeoutMs)));
    const guest = deps.connectGuest(place.slot.hostAddress, record);
    // First of all: what fails from here on must end the microVM, and the record does not name it yet.
    sandbox.running = { vm, slot: place.slot, guest };
    await faults.hit('create.after-spawn');
    const memory = { path: memoryPath, mapping: 'shared' } as const;
    await noteLaunch(deps, sandbox, { ...place, vm, memory, ...(diskGenerationId ? { diskGenerationId } : {}) });
    const { running } = sandbox;
    await phase('guest', () =>
      failIfTheVmExits(running, async (signal) => {
        await guest.waitHealthy({ timeoutMs: bootTimeoutMs, signal });
        await guest.init(guestIdentity(record), { hostToken: record.hostToken, timeoutMs: bootInitTimeoutMs, signal });
      }),
    );
  });
}

/**
 * Restores a microVM for `sandbox` from a generation with memory, on a new disk layer. The guest gets a new identity before its
 * user processes go on. On any failure, an abort included, everything taken is released again and the error is thrown. Under the sandbox's lock.
 */
export async function restoreMicroVm(
  deps: StartDeps,
  sandbox: Sandbox,
  from: OpenedGeneration,
  { signal }: { signal?: AbortSignal } = {},
): Promise<void> {
  const { vmm, layout, faults, generations } = deps;
  const { manifest } = from;
  const diskGenerationId = asId('generation', manifest.id);
  // Until the record names them, nothing else keeps them.
  using held = new DisposableStack();
  held.use(generations.hold({ generationId: diskGenerationId }));
  const { base, statePath, pages } = await generations.restoreMemory(from);
  held.use(generations.hold(base.storage));
  await startInSlot(deps, sandbox, { base: from.disk, diskGenerationId }, async (place) => {
    const { record } = sandbox;
    const toolboxPath = layout.toolbox(manifest.toolboxId);
    const spec = machineSpec(deps, record, { ...place, memoryPath: base.path, toolboxPath });
    const timeout = AbortSignal.timeout(startTimeoutMs);
    const saved = { statePath, ...(pages ? { pages } : {}) };
    const ends = signal ? AbortSignal.any([timeout, signal]) : timeout;
    const vm = await phase('restore', () => vmm.restore(spec, saved, ends));
    // The saved guest knows the tokens of when it was saved; it gets this run's with its identity.
    const guest = deps.connectGuest(place.slot.hostAddress, {
      hostToken: manifest.guestAgentToken,
      accessToken: record.accessToken,
    });
    const running = { vm, slot: place.slot, guest };
    // First of all: what fails from here on must end the microVM, and the record does not name it yet.
    sandbox.running = running;
    await faults.hit('resume.after-spawn');
    await vm.resume();
    const memory = { path: base.path, mapping: 'private', source: base } as const;
    const identify = () =>
      allDone([
        () => noteLaunch(deps, sandbox, { ...place, vm, memory, diskGenerationId }),
        () =>
          failIfTheVmExits(running, (gone) =>
            identifyRestored(deps, record, { guest, signal: signal ? AbortSignal.any([gone, signal]) : gone }),
          ),
      ]);
    await phase('guest', identify);
    await faults.hit('resume.after-init');
  });
}

/** Writes down what the run holds. Until then only its directory and its slot are known, and nothing runs in those. */
async function noteLaunch(
  { registry }: Pick<StartDeps, 'registry'>,
  sandbox: Sandbox,
  {
    vm,
    slot,
    runDirectoryId,
    disk,
    memory,
    diskGenerationId,
  }: Place & Pick<Run, 'memory'> & { vm: MicroVm; diskGenerationId?: GenerationId },
): Promise<void> {
  const run: Run = {
    runDirectoryId,
    vmm: vm.record,
    slotIndex: slot.index,
    disk,
    memory,
    ...(diskGenerationId ? { diskGenerationId } : {}),
  };
  await registry.transition(sandbox, { kind: 'launched', run });
}

/** Gives a restored guest its identity and secrets, and lets its user processes go on. */
async function identifyRestored(
  { logger }: Pick<StartDeps, 'logger'>,
  record: SandboxFacts,
  { guest, signal }: { guest: GuestClient; signal: AbortSignal },
): Promise<void> {
  const options = { hostToken: record.hostToken, isFrozen: true, timeoutMs: restoreTimeoutMs, signal };
  const skipped = await guest.init(guestIdentity(record), options);
  if (skipped !== '') logger.warn({ sandboxId: record.sandboxId, skipped }, 'a restored guest could not do everything');
}

interface Place {
  runDirectoryId: SandboxId;
  slot: NetworkSlot;
  disk: DiskLayer;
  /** Files below the layer that the VMM reads as well. */
  bases: readonly string[];
}

/** Takes a slot, makes the run's files, and runs `start` there. Gives all of it back when anything fails. */
async function startInSlot(
  deps: StartDeps,
  sandbox: Sandbox,
  { base, diskGenerationId }: { base: DiskLayer; diskGenerationId: GenerationId | undefined },
  start: (place: Place) => Promise<void>,
): Promise<void> {
  const { registry, slots, disks, layout, faults, logger } = deps;
  const { sandboxId, diskMib } = sandbox.record;
  const { runDirectoryId } = launchOf(sandbox.record);
  const slot = await phase('slot', () => slots.acquire());
  try {
    await faults.hit('create.after-slot');
    for (const directory of [layout.sandbox(runDirectoryId), layout.sandboxDisk(runDirectoryId)])
      await mkdir(directory, { recursive: true, mode: 0o711 });
    const runDirectory = layout.sandboxRun(runDirectoryId);
    await mkdir(runDirectory, { recursive: true, mode: 0o700 });
    await chown(runDirectory, slot.uid, slot.uid);
    const layer = layout.sandboxLayer(runDirectoryId, newId('generation'));
    const disk = await phase('disk', () => disks.createLayer({ path: layer, base, sizeMib: diskMib, uid: slot.uid }));
    await faults.hit('create.after-disk');
    const below = await disks.chain(disk);
    requireKnownLayers(deps, below, diskGenerationId);
    const bases = below.map(({ path: file }) => file);
    await start({ runDirectoryId, slot, disk, bases });
    await faults.hit('create.after-init');
  } catch (error) {
    await releaseMicroVm(deps, sandbox, { slot })
      .then(() => registry.transition(sandbox, { kind: 'unlaunched' }))
      .catch((releaseError: unknown) => {
        logger.error({ sandboxId, error: errorText(releaseError) }, 'cannot release everything of a failed start');
      });
    throw error;
  }
}

/** The machine that a sandbox asks for, in its place. */
function machineSpec(
  { images, layout }: Pick<StartDeps, 'images' | 'layout'>,
  record: SandboxFacts,
  { runDirectoryId, slot, disk, bases, memoryPath, toolboxPath }: Place & { memoryPath: string; toolboxPath: string },
): MachineSpec {
  return {
    id: runDirectoryId,
    vcpus: record.vcpus,
    memoryMib: record.memoryMib,
    kernelPath: images.kernel.path,
    initramfsPath: images.initramfs.path,
    kernelParameters: [`aviary.host_token_sha256=${sha256Hex(record.hostToken)}`],
    toolboxPath,
    disk: { ...disk, bases },
    memoryPath,
    network: { namespace: slot.namespace, tapName: slot.tapName, guestMac: slot.guestMac },
    uid: slot.uid,
    gid: vmmGid,
    runDirectory: layout.sandboxRun(runDirectoryId),
  };
}

/** Runs `work` in the guest; fails at once when the microVM ends meanwhile. Every failure tells what the guest printed last. */
async function failIfTheVmExits({ vm }: RunningParts, work: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const gone = new AbortController();
  const died = vm.exited.then(async ({ reason, lastOutput }) => {
    const error = new AppError('internal', withLastOutput(`the microVM ended while starting: ${reason}`, lastOutput));
    gone.abort(error);
    throw error;
  });
  died.catch(() => undefined); // seen through the race, if it comes first
  const worked = work(gone.signal).catch(async (cause: unknown) => {
    const lastOutput = lastOutputOf(await vm.consoleTail().catch(() => ''));
    if (!(cause instanceof AppError) || lastOutput === '') throw cause;
    throw new AppError(cause.code, withLastOutput(cause.message, lastOutput), { details: cause.details, cause });
  });
  await Promise.race([worked, died]);
}

/** An empty file for guest RAM that nobody but the VMM may read; the VMM gives it its size. */
async function createMemoryFile(file: string, uid: number): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true, mode: 0o711 });
  await rm(file, { force: true });
  const handle = await open(file, 'wx', 0o600);
  try {
    await handle.chown(uid, uid);
  } finally {
    await handle.close();
  }
}

/** Who a guest is told to be: its own name, machine id and secrets, different from those of whatever it was copied from. */
export function guestIdentity(record: SandboxFacts) {
  const label = sandboxHostLabel(record.sandboxId);
  return {
    accessToken: record.accessToken,
    hostname: `sb-${label.slice(-12)}`,
    machineId: label,
    envVars: record.envs,
    defaultUser: record.defaultUser,
  };
}
