import { createHash, randomBytes } from 'node:crypto';
import { chown, mkdir, open, rm } from 'node:fs/promises';
import { errorText, newId, sandboxHostLabel } from '@aviary/core';
import { GuestClient } from '../guest/guest-client.ts';
import type { DiskLayer } from '../disk/disk-store.ts';
import type { NetworkSlot } from '../network/network-slot.ts';
import type { MachineSpec } from '../vmm/vmm.ts';
import type { SandboxContext } from './sandbox-context.ts';
import { releaseMicroVm } from './release-micro-vm.ts';
import type { Sandbox } from './sandbox-registry.ts';
import type { SandboxRecord } from './sandbox-record.ts';
import { watchExit } from './watch-exit.ts';

/** Longest a guest may take from power-on to its agent's first answer. Software CPUs on a busy machine are slow. */
const bootTimeoutMs = 180_000;

/** A new secret of 256 bits, hex. */
export function newToken(): string {
  return randomBytes(32).toString('hex');
}

export function sha256Hex(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** The machine that a sandbox asks for, in the place that `slot` gives it. */
export function machineSpec(context: SandboxContext, record: SandboxRecord, place: { slot: NetworkSlot; disk: DiskLayer; memoryPath: string }): MachineSpec {
  const { images, layout } = context;
  return {
    id: record.sandboxId,
    vcpus: record.vcpus,
    memoryMib: record.memoryMib,
    kernelPath: images.kernel.path,
    initramfsPath: images.initramfs.path,
    kernelParameters: [`aviary.host_token_sha256=${sha256Hex(record.hostToken)}`],
    toolboxPath: images.toolbox.path,
    disk: place.disk,
    memoryPath: place.memoryPath,
    network: { namespace: place.slot.namespace, tapName: place.slot.tapName, guestMac: place.slot.guestMac },
    uid: place.slot.uid,
    runDirectory: layout.sandboxRun(record.sandboxId),
  };
}

/**
 * Boots a microVM for `sandbox` from its kernel, with a new disk layer on `base`, and waits until its guest agent has its
 * identity. On any failure everything taken is released again and the error is thrown.
 */
export async function bootMicroVm(context: SandboxContext, sandbox: Sandbox, base: DiskLayer): Promise<void> {
  const { registry, slots, vmm, disks, layout, faults } = context;
  const { record } = sandbox;
  const slot = await slots.acquire();
  try {
    await faults.hit('create.after-slot');
    await registry.save(sandbox, { slotIndex: slot.index });
    await faults.hit('create.after-journal');
    const runDirectory = layout.sandboxRun(record.sandboxId);
    await mkdir(layout.sandbox(record.sandboxId), { recursive: true, mode: 0o711 });
    await mkdir(runDirectory, { recursive: true, mode: 0o700 });
    await chown(runDirectory, slot.uid, slot.uid);
    await mkdir(layout.sandboxDisk(record.sandboxId), { recursive: true, mode: 0o711 });
    const path = layout.sandboxLayer(record.sandboxId, newId('generation'));
    const disk = await disks.createLayer({ path, base, sizeMib: record.diskMib, uid: slot.uid });
    await faults.hit('create.after-disk');
    const memoryPath = layout.sandboxMemory(record.sandboxId);
    await createMemoryFile(memoryPath, slot.uid);
    await registry.save(sandbox, { disk, memory: { path: memoryPath, mapping: 'shared' } });
    const vm = await vmm.boot(machineSpec(context, record, { slot, disk, memoryPath }), AbortSignal.timeout(60_000));
    await faults.hit('create.after-spawn');
    const guest = new GuestClient(slot.hostAddress, { hostToken: record.hostToken, accessToken: record.accessToken });
    sandbox.running = { vm, slot, guest };
    await registry.save(sandbox, { vmm: vm.record });
    await faults.hit('create.after-boot');
    await reachGuest(sandbox, bootTimeoutMs);
    await faults.hit('create.after-init');
    watchExit(context, sandbox, vm);
  } catch (error) {
    await releaseMicroVm(context, sandbox, { slot }).catch((releaseError: unknown) => {
      context.logger.error({ sandboxId: record.sandboxId, error: errorText(releaseError) }, 'cannot release everything of a failed start');
    });
    throw error;
  }
}

/** An empty file for guest RAM that nobody but the VMM may read; the VMM gives it its size. */
async function createMemoryFile(path: string, uid: number): Promise<void> {
  await rm(path, { force: true });
  const handle = await open(path, 'wx', 0o600);
  try {
    await handle.chown(uid, uid);
  } finally {
    await handle.close();
  }
}

/** Waits for the guest's agent and gives the guest its identity. Fails at once, with the reason, when the microVM ends instead. */
export async function reachGuest(sandbox: Sandbox, timeoutMs: number): Promise<void> {
  const { record, running } = sandbox;
  if (!running) throw new Error('the sandbox has no microVM');
  const gone = new AbortController();
  let isReached = false;
  void running.vm.exited.then(({ reason }) => {
    if (!isReached) gone.abort(new Error(`the microVM ended while starting: ${reason}`));
  });
  await running.guest.waitHealthy({ timeoutMs, signal: gone.signal });
  await running.guest.init(guestIdentity(record), { timeoutMs: 15_000 });
  isReached = true;
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
