import { AppError, asId, type GenerationId } from '@aviary/core';
import {
  type BackingLayer,
  fullMemoryPart,
  type GenerationCause,
  type GenerationManifest,
  statePart,
} from '../generations/manifest.ts';
import type { SandboxContext } from './sandbox-context.ts';
import type { Sandbox } from './sandbox-registry.ts';

/** The disk layer's name in every generation. */
export const diskPartName = 'disk.qcow2';

/**
 * Saves a sandbox's paused microVM as a new generation, durable when this resolves. `isEnding`: the microVM is killed after this,
 * so that its files can be taken over; otherwise they are copied and it can go on. When it throws there is no such generation
 * and the microVM may go on as well.
 */
export async function saveGeneration(
  context: SandboxContext,
  sandbox: Sandbox,
  {
    cause,
    isEnding,
    onDraft,
  }: { cause: GenerationCause; isEnding: boolean; onDraft?: (id: GenerationId) => Promise<void> },
): Promise<GenerationManifest> {
  const { generations, images, identity, disks, faults } = context;
  const { record, running } = sandbox;
  const { accelerationNote: _note, ...machine } = identity;
  const { memory, disk } = record;
  if (!running || !memory || !disk) throw new AppError('invalid_state', 'only a sandbox with a microVM can be saved');
  const by = isEnding ? ('link' as const) : ('copy' as const);
  const reads = memory.mapping === 'private' ? [memory.source.storage] : [];
  await using draft = await generations.begin(record.sandboxId, reads);
  await faults.hit('pause.before-state');
  await allDone([
    async () => onDraft?.(asId('generation', draft.id)),
    async () => {
      await running.vm.saveState(draft.path(statePart));
      await running.vm.flushDisk();
    },
  ]);
  await faults.hit('pause.before-memory');
  const saveMemory = async () => {
    if (memory.mapping === 'shared') await draft.adoptFullMemory(fullMemoryPart, { path: memory.path, by });
    else {
      await draft.writeMemoryDiff({ base: memory.source, memoryBytes: record.memoryMib * 2 ** 20 }, (onRange) =>
        running.vm.dirtyPages(onRange),
      );
    }
  };
  const saveDisk = async () => {
    await faults.hit('pause.before-disk');
    await draft.adoptPart(diskPartName, { path: disk.path, by });
  };
  await allDone([() => draft.sealPart(statePart), saveMemory, saveDisk]);
  // Awaited here: the draft must not be disposed of while it is committed.
  return await draft.commit({
    ...(record.generationId === undefined ? {} : { parent: record.generationId }),
    cause,
    createdAt: new Date(context.registry.clock.now()).toISOString(),
    vcpus: record.vcpus,
    memoryMib: record.memoryMib,
    diskMib: record.diskMib,
    disk: { part: diskPartName, format: disk.format, backing: await backingOf(context, disk, disks) },
    vmm: machine,
    kernelId: images.kernel.version,
    initramfsId: images.initramfs.id,
    toolboxId: images.toolbox.id,
    guestAgentToken: record.hostToken,
    network: { guest_mac: running.slot.guestMac },
  });
}

/** Runs all at once and resolves when all have ended; throws the first one's error that failed. The disk flushes them together. */
async function allDone(steps: readonly (() => Promise<unknown>)[]): Promise<void> {
  for (const result of await Promise.allSettled(steps.map((step) => step())))
    if (result.status === 'rejected') throw result.reason;
}

/** What lies under a sandbox's disk layer, in the terms of a manifest. */
async function backingOf(
  { layout, images }: SandboxContext,
  disk: { path: string; format: 'qcow2' | 'raw' },
  disks: SandboxContext['disks'],
): Promise<BackingLayer[]> {
  const layers = await disks.chain(disk);
  return layers.map(
    ({ path }) =>
      layout.generationPart(path) ?? {
        kind: 'image' as const,
        path,
        id: path === images.minimal.rootfsPath ? images.minimal.id : path,
      },
  );
}
