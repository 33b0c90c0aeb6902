import { AppError, type GenerationCause } from '@aviary/core';
import type { DiskLayer } from '../disk/disk-store.ts';
import type { GenerationDraft } from '../generations/generation-draft.ts';
import { type BackingLayer, fullMemoryPart, type GenerationManifest, statePart } from '../generations/manifest.ts';
import type { SandboxContext } from './sandbox-context.ts';
import type { Sandbox } from './sandbox-registry.ts';
import type { GuestStop } from './stopped-guest.ts';

/** The disk layer's name in every generation. */
export const diskPartName = 'disk.qcow2';

/** Starts the generation that {@link saveGeneration} completes. Dispose of it: that has no effect on one that was completed. */
export function beginGeneration({ generations }: SandboxContext, { record }: Sandbox): Promise<GenerationDraft> {
  const { memory, sandboxId } = record;
  return generations.begin(sandboxId, memory?.mapping === 'private' ? [memory.source.storage] : []);
}

/**
 * Completes `draft` with a sandbox's paused microVM: durable when this resolves. Its disk layer is the generation's from then on:
 * the microVM must end, or go on with another layer (see `checkpoint-sandbox.ts`). `isEnding`: its memory file is taken over
 * as well, otherwise copied. Of a guest that was stopped without its help only the disk is saved. When it throws there is no such generation and the microVM may go on as it was.
 */
export async function saveGeneration(
  context: SandboxContext,
  sandbox: Sandbox,
  {
    draft: begun,
    cause,
    isEnding,
    stop = 'frozen',
  }: { draft: GenerationDraft; cause: GenerationCause; isEnding: boolean; stop?: GuestStop },
): Promise<GenerationManifest> {
  // Before the guest goes on after a failure: on a full disk it would meet what the draft still takes.
  await using draft = begun;
  const { images, identity, faults, disks } = context;
  const { record, running } = sandbox;
  const { accelerationNote: _note, accelerationDetail: _detail, ...machine } = identity;
  const { memory, disk } = record;
  if (!running || !memory || !disk) throw new AppError('invalid_state', 'only a sandbox with a microVM can be saved');
  await faults.hit('pause.before-state');
  const saveState = async () => {
    await running.vm.saveState(draft.path(statePart));
    await draft.sealPart(statePart);
  };
  const saveMemory = async () => {
    await faults.hit('pause.before-memory');
    if (memory.mapping === 'shared')
      await draft.adoptFullMemory(fullMemoryPart, { path: memory.path, by: isEnding ? 'link' : 'copy' });
    else {
      await draft.writeMemoryDiff({ base: memory.source, memoryBytes: record.memoryMib * 2 ** 20 }, (onRange) =>
        running.vm.dirtyPages(onRange),
      );
    }
  };
  let backing: BackingLayer[] = [];
  const hasMemory = stop === 'frozen';
  await allDone([
    ...(hasMemory ? [saveState, saveMemory] : []),
    async () => {
      const [below] = await Promise.all([disks.chain(disk), stop === 'killed' ? undefined : running.vm.flushDisk()]);
      await faults.hit('pause.before-disk');
      backing = await saveDisk(context, draft, { disk, below });
    },
  ]);
  return await draft.commit({
    ...(record.generationId === undefined ? {} : { parent: record.generationId }),
    cause,
    createdAt: new Date(context.registry.clock.now()).toISOString(),
    vcpus: record.vcpus,
    memoryMib: record.memoryMib,
    diskMib: record.diskMib,
    disk: { part: diskPartName, format: disk.format, backing },
    ...(hasMemory ? { vmm: machine } : {}),
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
