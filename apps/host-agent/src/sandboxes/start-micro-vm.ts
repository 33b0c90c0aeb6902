import { randomBytes } from 'node:crypto';
import { chown, mkdir, open, rm } from 'node:fs/promises';
import path from 'node:path';
import { AppError, asId, errorText, newId, sandboxHostLabel } from '@aviary/core';
import type { DiskLayer } from '../disk/disk-store.ts';
import type { OpenedGeneration } from '../generations/generation-reader.ts';
import { GuestClient } from '../guest/guest-client.ts';
import { sha256Hex } from '../guest/proven-agent.ts';
import type { NetworkSlot } from '../network/network-slot.ts';
import { lastOutputOf, withLastOutput } from '../vmm/last-output.ts';
import type { MachineSpec } from '../vmm/vmm.ts';
import { vmmGid } from '../vmm/vmm-group.ts';
import { releaseMicroVm } from './release-micro-vm.ts';
import type { SandboxContext } from './sandbox-context.ts';
import type { SandboxRecord } from './sandbox-record.ts';
import type { RunningParts, Sandbox } from './sandbox-registry.ts';

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
export async function bootMicroVm(context: SandboxContext, sandbox: Sandbox, base: DiskLayer): Promise<void> {
  const { registry, vmm, images, layout, faults } = context;
  const { record } = sandbox;
  await startInSlot(context, sandbox, base, async (place) => {
    const memoryPath = layout.sandboxMemory(record.homeId);
    await createMemoryFile(memoryPath, place.slot.uid);
    record.memory = { path: memoryPath, mapping: 'shared' };
    const spec = machineSpec(context, record, { ...place, memoryPath, toolboxPath: images.toolbox.path });
    const vm = await vmm.boot(spec, AbortSignal.timeout(startTimeoutMs));
    await faults.hit('create.after-spawn');
    const guest = new GuestClient(place.slot.hostAddress, record);
    sandbox.running = { vm, slot: place.slot, guest };
    await registry.save(sandbox, { vmm: vm.record });
    await endsWith(sandbox.running, async (signal) => {
      await guest.waitHealthy({ timeoutMs: bootTimeoutMs, signal });
      await guest.init(guestIdentity(record), { hostToken: record.hostToken, timeoutMs: bootInitTimeoutMs, signal });
    });
  });
}

/**
 * Restores a microVM for `sandbox` from a generation with memory, on a new disk layer. The guest gets a new identity before its
 * user processes go on. On any failure everything taken is released again and the error is thrown. Under the sandbox's lock.
 */
export async function restoreMicroVm(context: SandboxContext, sandbox: Sandbox, from: OpenedGeneration): Promise<void> {
  const { registry, vmm, layout, faults, generations } = context;
  const { record } = sandbox;
  const { manifest } = from;
  const { base, statePath, pages } = await generations.restoreMemory(from);
  await startInSlot(context, sandbox, from.disk, async (place) => {
    record.memory = { path: base.path, mapping: 'private', source: base };
    record.diskGenerationId = asId('generation', manifest.id);
    const toolboxPath = layout.toolbox(manifest.toolboxId);
    const spec = machineSpec(context, record, { ...place, memoryPath: base.path, toolboxPath });
    const vm = await vmm.restore(spec, { statePath, ...(pages ? { pages } : {}) }, AbortSignal.timeout(startTimeoutMs));
    await faults.hit('resume.after-spawn');
    await vm.resume();
    // The saved guest knows the tokens of when it was saved; it gets this run's with its identity.
    const guest = new GuestClient(place.slot.hostAddress, {
      hostToken: manifest.guestAgentToken,
      accessToken: record.accessToken,
    });
    sandbox.running = { vm, slot: place.slot, guest };
    await Promise.all([
      registry.save(sandbox, { vmm: vm.record }),
      endsWith(sandbox.running, (signal) => takeOver(context, sandbox.record, { guest, signal })),
    ]);
    await faults.hit('resume.after-init');
  });
}

/** Gives a restored guest its identity and secrets, and lets its user processes go on. */
async function takeOver(
  { logger }: SandboxContext,
  record: SandboxRecord,
  { guest, signal }: { guest: GuestClient; signal: AbortSignal },
): Promise<void> {
  const options = { hostToken: record.hostToken, isFrozen: true, timeoutMs: restoreTimeoutMs, signal };
  const skipped = await guest.init(guestIdentity(record), options);
  if (skipped !== '') logger.warn({ sandboxId: record.sandboxId, skipped }, 'a restored guest could not do everything');
}

interface Place {
  slot: NetworkSlot;
  disk: MachineSpec['disk'];
}

/** Takes a slot, makes the run's files, and runs `start` there. Gives all of it back when anything fails. */
async function startInSlot(
  context: SandboxContext,
  sandbox: Sandbox,
  base: DiskLayer,
  start: (place: Place) => Promise<void>,
): Promise<void> {
  const { slots, disks, layout, faults } = context;
  const { record } = sandbox;
  const slot = await slots.acquire();
  try {
    await faults.hit('create.after-slot');
    // Reaches the journal with the VMM's record: without one nothing runs in the slot, and the next agent reclaims it.
    record.slotIndex = slot.index;
    for (const directory of [layout.sandbox(record.homeId), layout.sandboxDisk(record.homeId)])
      await mkdir(directory, { recursive: true, mode: 0o711 });
    const runDirectory = layout.sandboxRun(record.homeId);
    await mkdir(runDirectory, { recursive: true, mode: 0o700 });
    await chown(runDirectory, slot.uid, slot.uid);
    const layer = layout.sandboxLayer(record.homeId, newId('generation'));
    const disk = await disks.createLayer({ path: layer, base, sizeMib: record.diskMib, uid: slot.uid });
    record.disk = disk;
    await faults.hit('create.after-disk');
    const bases = (await disks.chain(disk)).map(({ path: file }) => file);
    await start({ slot, disk: { ...disk, bases } });
    await faults.hit('create.after-init');
  } catch (error) {
    await releaseMicroVm(context, sandbox, { slot }).catch((releaseError: unknown) => {
      context.logger.error(
        { sandboxId: record.sandboxId, error: errorText(releaseError) },
        'cannot release everything of a failed start',
      );
    });
    throw error;
  }
}

/** The machine that a sandbox asks for, in its place. */
function machineSpec(
  { images, layout }: SandboxContext,
  record: SandboxRecord,
  { slot, disk, memoryPath, toolboxPath }: Place & { memoryPath: string; toolboxPath: string },
): MachineSpec {
  return {
    id: record.homeId,
    vcpus: record.vcpus,
    memoryMib: record.memoryMib,
    kernelPath: images.kernel.path,
    initramfsPath: images.initramfs.path,
    kernelParameters: [`aviary.host_token_sha256=${sha256Hex(record.hostToken)}`],
    toolboxPath,
    disk,
    memoryPath,
    network: { namespace: slot.namespace, tapName: slot.tapName, guestMac: slot.guestMac },
    uid: slot.uid,
    gid: vmmGid,
    runDirectory: layout.sandboxRun(record.homeId),
  };
}

/** Runs `work` in the guest; fails at once when the microVM ends meanwhile. Every failure tells what the guest printed last. */
async function endsWith({ vm }: RunningParts, work: (signal: AbortSignal) => Promise<void>): Promise<void> {
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
export function guestIdentity(record: SandboxRecord) {
  const label = sandboxHostLabel(record.sandboxId);
  return {
    accessToken: record.accessToken,
    hostname: `sb-${label.slice(-12)}`,
    machineId: label,
    envVars: record.envs,
    defaultUser: record.defaultUser,
  };
}
