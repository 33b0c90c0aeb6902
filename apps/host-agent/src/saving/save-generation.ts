import type { GenerationCause } from '@aviary/core';
import type { ImageSet } from '@aviary/images';
import { allDone, type Clock, type FaultPoints, type Logger } from '@aviary/service-kit';
import type { DiskLayer, DiskStore } from '../disk/disk-store.ts';
import type { GenerationDraft } from '../generations/generation-draft.ts';
import type { GenerationStore } from '../generations/generation-store.ts';
import { requireKnownLayers } from '../generations/known-layers.ts';
import { type BackingLayer, fullMemoryPart, type GenerationManifest, statePart } from '../generations/manifest.ts';
import type { HostLayout } from '../layout.ts';
import type { Run, SandboxFacts } from '../registry/sandbox-record.ts';
import type { RunningParts } from '../registry/sandbox-registry.ts';
import type { VmmIdentity } from '../vmm/vmm.ts';
import type { GuestStop } from './stopped-guest.ts';

/** The disk layer's name in every generation. */
const diskPartName = 'disk.layer';

export interface SaveDeps {
  generations: Pick<GenerationStore, 'begin' | 'get'>;
  disks: DiskStore;
  registry: { clock: Clock };
  images: ImageSet;
  identity: VmmIdentity;
  layout: HostLayout;
  faults: FaultPoints;
  logger: Logger;
}

/** Starts the generation that {@link saveGeneration} completes. Dispose of it: that has no effect on one that was completed. */
export function beginGeneration(
  { generations }: Pick<SaveDeps, 'generations'>,
  sandboxId: string,
  { memory }: Run,
): Promise<GenerationDraft> {
  return generations.begin(sandboxId, memory.mapping === 'private' ? [memory.source.storage] : []);
}

/** A sandbox whose guest is stopped: what it is, and what its run holds. */
export interface SavedSandbox {
  record: SandboxFacts;
  run: Run;
  running: Pick<RunningParts, 'vm' | 'slot'>;
}

/**
 * Completes `draft` with a sandbox's paused microVM: durable when this resolves. Its disk layer is the generation's from then on:
 * the microVM must end, or go on with another layer (see `checkpoint-sandbox.ts`). `isEnding`: its memory file is taken over
 * as well, otherwise copied. Of a guest that was stopped without its help only the disk is saved. When it throws there is no
 * such generation and the microVM may go on as it was.
 */
export async function saveGeneration(
  deps: SaveDeps,
  { record, run, running }: SavedSandbox,
  {
    draft: begun,
    cause,
    isEnding,
    stop = 'frozen',
  }: { draft: GenerationDraft; cause: GenerationCause; isEnding: boolean; stop?: GuestStop },
): Promise<GenerationManifest> {
  // Before the guest goes on after a failure: on a full disk it would meet what the draft still takes.
  await using draft = begun;
  const { images, identity, faults, disks } = deps;
  const { accelerationNote: _note, accelerationDetail: _detail, ...machine } = identity;
  const { memory, disk } = run;
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
      requireKnownLayers(deps, below, run.diskGenerationId);
      await faults.hit('pause.before-disk');
      backing = await saveDisk(deps, draft, { disk, below });
    },
  ]);
  return await draft.commit({
    ...(record.generationId === undefined ? {} : { parent: record.generationId }),
    cause,
    createdAt: new Date(deps.registry.clock.now()).toISOString(),
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

/**
 * Makes a sandbox's disk layer a part, and says what lies under it. Each run puts one more layer on the last, so a disk with as many
 * as may be is written anew in one piece: that takes the longer the more it holds, once in many runs.
 */
async function saveDisk(
  { layout, images, disks, logger }: SaveDeps,
  draft: GenerationDraft,
  { disk, below }: { disk: DiskLayer; below: readonly DiskLayer[] },
): Promise<BackingLayer[]> {
  if (below.length + 2 > disks.maxLayers) {
    logger.info({ sandboxId: draft.sandboxId, layers: below.length + 1 }, 'flattening a disk of many layers');
    await disks.flatten({ layer: disk, below, path: draft.path(diskPartName) });
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
