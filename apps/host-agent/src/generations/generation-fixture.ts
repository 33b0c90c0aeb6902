import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { must } from '@aviary/core';
import { FaultPoints, silentLogger, systemClock } from '@aviary/service-kit';
import { HostLayout } from '../layout.ts';
import { blockSize } from '../memory/mapping.ts';
import { materialise, readDiff } from '../memory/memory-diff.ts';
import type { OpenedGeneration } from './generation-reader.ts';
import { GenerationStore } from './generation-store.ts';
import { fullMemoryPart, type GenerationManifest, statePart } from './manifest.ts';
import type { GenerationNode } from './sandbox-generations.ts';

/**
 * Stand-in for a sandbox's side of the store in tests: memory of 64 pages whose content follows from a seed, a "disk layer" that is
 * a file, device state that is a text. Runs in a test's own process, and in a child that a fault point kills.
 */
export const fixtureSandboxId = '0190c2d4-0000-7000-8000-00000000aaaa';
export const memoryBlocks = 64;
const memoryBytes = memoryBlocks * blockSize;

export function openFixtureStore(
  dataDirectory: string,
  { fault, ...options }: { fault?: string; keptGenerations?: number } = {},
): Promise<GenerationStore> {
  const layout = new HostLayout(dataDirectory);
  const faults = new FaultPoints(fault);
  return GenerationStore.open({ layout, clock: systemClock, logger: silentLogger, faults }, options);
}

/** What a generation made with `seed` on top of those made with `before` must read back as. */
export function expectedMemory(seeds: readonly number[]): Buffer {
  const memory = Buffer.alloc(memoryBytes);
  for (const [index, seed] of seeds.entries())
    for (let block = 0; block < memoryBlocks; block++)
      if (index === 0 || isDirty(seed, block))
        memory.fill(pageByte(seed, block), block * blockSize, (block + 1) * blockSize);
  return memory;
}

const isDirty = (seed: number, block: number) => (block * 7 + seed * 13) % 11 === 0;
/** Every third page of a seed is zero. */
const pageByte = (seed: number, block: number) => ((block + seed) % 3 === 0 ? 0 : ((block * 31 + seed * 17) % 255) + 1);

export interface MakeOptions {
  seed: number;
  sandboxId?: string;
  /** What the sandbox runs from; undefined for a booted one. */
  from?: OpenedGeneration;
}

/** Pauses the pretended sandbox: makes one generation as the real operation does. */
export async function makeGeneration(
  store: GenerationStore,
  layout: HostLayout,
  options: MakeOptions,
): Promise<GenerationManifest> {
  const { seed, sandboxId = fixtureSandboxId, from } = options;
  await mkdir(layout.sandboxDisk(sandboxId), { recursive: true });
  const layer = layout.sandboxLayer(sandboxId, `top-${seed}`);
  await writeFile(layer, `disk ${seed}`);
  const reads = from
    ? [{ generationId: from.manifest.id, ...(from.memory ? { storageId: from.memory.storage.storageId } : {}) }]
    : [];
  await using draft = await store.begin(sandboxId, reads);
  await writeFile(draft.path(statePart), `state ${seed}`);
  await draft.sealPart(statePart);
  if (from) {
    const memory = expectedMemory([seed]);
    const base = must(from.memory, 'the fixture always opens with memory');
    await draft.writeMemoryDiff({ base, memoryBytes }, async (onRange) => {
      for (let block = 0; block < memoryBlocks; block++) {
        if (!isDirty(seed, block)) continue;
        await onRange({ offset: block * blockSize, data: memory.subarray(block * blockSize, (block + 1) * blockSize) });
      }
    });
  } else {
    const image = layout.sandboxMemory(sandboxId);
    await writeFile(image, expectedMemory([seed]));
    await draft.adoptFullMemory(fullMemoryPart, { path: image, by: 'copy' });
  }
  await draft.adoptPart('disk.layer', { path: layer, by: 'link' });
  return await draft.commit({
    ...(from ? { parent: from.manifest.id } : {}),
    cause: 'pause',
    createdAt: new Date(0).toISOString(),
    vcpus: 1,
    memoryMib: 1,
    diskMib: 1024,
    disk: {
      part: 'disk.layer',
      format: 'qcow2',
      backing: from
        ? [{ kind: 'generation', generationId: from.manifest.id, part: 'disk.layer' }, ...from.manifest.disk.backing]
        : [{ kind: 'image', path: '/images/minimal.ext4', id: 'minimal' }],
    },
    vmm: { vmm: 'qemu', version: '7.2', machineType: 'microvm', cpuModel: 'max', accelerator: 'tcg' },
    kernelId: 'kernel',
    initramfsId: 'initramfs',
    toolboxId: 'toolbox',
    guestAgentToken: 'secret',
    network: { guestMac: '02:00:00:00:00:01' },
  });
}

/** Makes `count` generations in a row, each resumed from the one before; seeds are 1, 2, 3, … */
export async function makeChain(
  store: GenerationStore,
  layout: HostLayout,
  count: number,
): Promise<GenerationManifest[]> {
  const made: GenerationManifest[] = [];
  for (let seed = 1; seed <= count; seed++) {
    const below = made.at(-1);
    const from = below ? await store.open(below.id, { need: 'memory' }) : undefined;
    made.push(await makeGeneration(store, layout, { seed, ...(from ? { from } : {}) }));
  }
  return made;
}

/** Everything that an opened generation holds: as a restore would see it. */
export async function contentOf(store: GenerationStore, layout: HostLayout, generationId: string) {
  const { disk, memory } = await store.open(generationId, { need: 'memory', isThorough: true });
  const { kind, path: memoryPath, storage, needs, statePath } = must(memory, 'fixture generations have memory');
  const state = await readFile(statePath, 'utf8');
  const diskText = await readFile(disk.path, 'utf8');
  if (kind === 'full') return { state, disk: diskText, memory: await readFile(memoryPath) };
  const { mapping } = await readDiff(memoryPath);
  const image = path.join(layout.dataDirectory, `image-${crypto.randomUUID()}`);
  await materialise(image, { mapping, memoryBytes }, (storageId) => {
    if (storageId === storage.storageId) return memoryPath;
    const { generationId: owner } = must(
      needs.find((one) => one.storageId === storageId),
      'an opened diff names what it needs',
    );
    return store.storagePath({ generationId: owner, storageId });
  });
  return { state, disk: diskText, memory: await readFile(image) };
}

/** What a child process does until its fault point kills it. */
export const childSteps = {
  commit: async (store: GenerationStore, layout: HostLayout) => {
    const current = must(store.current(fixtureSandboxId), 'the parent made generations');
    await makeGeneration(store, layout, { seed: 4, from: await store.open(current) });
  },
  merge: async (store: GenerationStore) => {
    await store.merge(must(store.current(fixtureSandboxId), 'the parent made generations'), 'full');
  },
  collect: async (store: GenerationStore) => {
    await store.collectGarbage([]);
  },
} as const satisfies Record<string, (store: GenerationStore, layout: HostLayout) => Promise<void>>;

/** Entry of the child process. */
export async function runChild(dataDirectory: string, step: keyof typeof childSteps, fault: string): Promise<void> {
  const store = await openFixtureStore(dataDirectory, { fault, keptGenerations: 1 });
  await childSteps[step](store, new HostLayout(dataDirectory));
}

/** The oracle: generation number n of a chain reads back as made, whatever happened around it. */
export async function expectIntact(
  store: GenerationStore,
  layout: HostLayout,
  { id, number }: GenerationManifest,
): Promise<void> {
  const seeds = Array.from({ length: number }, (_, index) => index + 1);
  const { state, disk, memory } = await contentOf(store, layout, id);
  assert.deepEqual({ state, disk }, { state: `state ${number}`, disk: `disk ${number}` });
  assert.ok(memory.equals(expectedMemory(seeds)), `memory of generation ${number}`);
}

/** The numbers of the fixture sandbox's generations that a store lists. */
export function numbersOf(store: GenerationStore): number[] {
  const flatten = (nodes: readonly GenerationNode[]): GenerationNode[] =>
    nodes.flatMap((node) => [node, ...flatten(node.children)]);
  return flatten(store.list(fixtureSandboxId)).map(({ manifest }) => manifest.number);
}

/** What a store has on disk. */
export async function savedEntries(layout: HostLayout): Promise<{ generations: string[]; merged: string[] }> {
  return {
    generations: (await readdir(layout.generationsDirectory)).toSorted(),
    merged: (await readdir(layout.mergedDirectory)).toSorted(),
  };
}
