import { AppError, asId, type GenerationId } from '@aviary/core';
import type { DiskLayer } from '../disk/disk-store.ts';
import type { GenerationDraft } from '../generations/generation-draft.ts';
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
 * Saves a sandbox's paused microVM as a new generation, durable when this resolves. Its disk layer is the generation's from then on:
 * the microVM must end, or go on with another layer (see `checkpoint-sandbox.ts`). `isEnding`: its memory file is taken over
 * as well, otherwise copied. When it throws there is no such generation and the microVM may go on as it was.
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
  const { generations, images, identity, faults, disks } = context;
  const { record, running } = sandbox;
  const { accelerationNote: _note, ...machine } = identity;
  const { memory, disk } = record;
  if (!running || !memory || !disk) throw new AppError('invalid_state', 'only a sandbox with a microVM can be saved');
  const reads = memory.mapping === 'private' ? [memory.source.storage] : [];
  await using draft = await generations.begin(record.sandboxId, reads);
  await faults.hit('pause.before-state');
  let below: DiskLayer[] = [];
  await allDone([
    async () => onDraft?.(asId('generation', draft.id)),
    async () => {
      below = await disks.chain(disk);
    },
    async () => {
      await running.vm.saveState(draft.path(statePart));
      await running.vm.flushDisk();
    },
  ]);
  await faults.hit('pause.before-memory');
  const saveMemory = async () => {
    if (memory.mapping === 'shared')
      await draft.adoptFullMemory(fullMemoryPart, { path: memory.path, by: isEnding ? 'link' : 'copy' });
    else {
      await draft.writeMemoryDiff({ base: memory.source, memoryBytes: record.memoryMib * 2 ** 20 }, (onRange) =>
        running.vm.dirtyPages(onRange),
      );
    }
  };
  let backing: BackingLayer[] = [];
  await allDone([
    () => draft.sealPart(statePart),
    saveMemory,
    async () => {
      await faults.hit('pause.before-disk');
      backing = await saveDisk(context, draft, { disk, below });
    },
  ]);
  // Awaited here: the draft must not be disposed of while it is committed.
  return await draft.commit({
    ...(record.generationId === undefined ? {} : { parent: record.generationId }),
    cause,
    createdAt: new Date(context.registry.clock.now()).toISOString(),
    vcpus: record.vcpus,
    memoryMib: record.memoryMib,
    diskMib: record.diskMib,
    disk: { part: diskPartName, format: disk.format, backing },
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

/**
 * Makes a sandbox's disk layer a part, and says what lies under it. Each run puts one more layer on the last, so a disk with as many
 * as may be is written anew in one piece: that takes the longer the more it holds, once in many runs.
 */
async function saveDisk(
  { layout, images, disks, logger }: SandboxContext,
  draft: GenerationDraft,
  { disk, below }: { disk: DiskLayer; below: readonly DiskLayer[] },
): Promise<BackingLayer[]> {
  if (below.length + 2 > disks.maxLayers) {
    logger.info({ sandboxId: draft.sandboxId, layers: below.length + 1 }, 'flattening a disk of many layers');
    await disks.flatten({ layer: disk, path: draft.path(diskPartName) });
    await draft.sealPart(diskPartName);
    return [];
  }
  await draft.adoptPart(diskPartName, { path: disk.path, by: 'link' });
  return below.map(
    ({ path }) =>
      layout.generationPart(path) ?? {
        kind: 'image' as const,
        path,
        id: path === images.minimal.rootfsPath ? images.minimal.id : path,
      },
  );
}
