import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, open, readdir, readFile, rename, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { must } from '@aviary/core';
import { describe, expect, it } from 'vitest';
import {
  type childSteps,
  expectIntact,
  fixtureSandboxId,
  makeChain,
  makeGeneration,
  numbersOf,
  openFixtureStore,
  savedEntries,
} from './generation-fixture.ts';
import { type GenerationManifest, restoreMismatches } from './manifest.ts';
import { useStoreDirectory } from './store-directory.ts';

const place = useStoreDirectory();

const fixtureUrl = new URL('./generation-fixture.ts', import.meta.url).href;

/** Runs a step in a process of its own and returns the signal that ended it. */
async function runChild(step: keyof typeof childSteps, fault: string): Promise<string | null> {
  const script = `const { runChild } = await import(${JSON.stringify(fixtureUrl)}); await runChild(...process.argv.slice(1));`;
  const args = ['--input-type=module', '-e', script, place.directory, step, fault];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  child.stderr.setEncoding('utf8');
  let errors = '';
  child.stderr.on('data', (text: string) => {
    errors += text;
  });
  const [code, signal] = await once(child, 'close');
  if (code !== null && code !== 0) throw new Error(`child failed: ${errors}`);
  return signal;
}

async function flipBit(file: string, position: number): Promise<void> {
  await chmod(file, 0o640);
  const handle = await open(file, 'r+');
  const byte = Buffer.alloc(1);
  await handle.read(byte, 0, 1, position);
  byte.writeUInt8(byte.readUInt8() ^ 4);
  await handle.write(byte, 0, 1, position);
  await handle.close();
}

describe('generation store', () => {
  it('gives back each generation of a chain of twelve, also after a restart and after merges', async () => {
    const store = await openFixtureStore(place.directory);
    const made = await makeChain(store, place.layout, 12);
    for (const one of made) await expectIntact(store, place.layout, one);
    expect(store.longChains().length).toBeGreaterThan(0);
    await store.mergeLongChains(new AbortController().signal);
    expect(store.longChains()).toEqual([]);
    await store.ensureFullImage(must(made[4], 'twelve').id);
    const again = await openFixtureStore(place.directory);
    for (const one of made) await expectIntact(again, place.layout, one);
    expect((await again.open(must(made[4], 'twelve').id)).memory?.kind).toBe('full');
  });

  it('freezes parts, keeps the secret manifest to itself, and leaves the source layer its own name', async () => {
    const store = await openFixtureStore(place.directory);
    const [first] = await makeChain(store, place.layout, 1);
    const home = place.layout.generation(must(first, 'one').id);
    for (const [part, mode] of [
      ['state.bin', 0o440],
      ['memory.img', 0o440],
      ['disk.layer', 0o440],
    ] as const)
      expect((await stat(path.join(home, part))).mode & 0o777, part).toBe(mode);
    expect((await stat(path.join(home, 'manifest.json'))).mode & 0o777).toBe(0o600);
    const layer = await stat(place.layout.sandboxLayer(fixtureSandboxId, 'top-1'));
    expect(layer.ino).toBe((await stat(path.join(home, 'disk.layer'))).ino);
  });

  it('tells when a file that restored microVMs read was touched, also when it holds what it should again', async () => {
    const store = await openFixtureStore(place.directory);
    const [one, two] = await makeChain(store, place.layout, 2);
    if (!one || !two) throw new Error('two generations');
    const read = [
      ...[one, two].map(({ id }) => path.join(place.layout.generation(id), 'disk.layer')),
      path.join(place.layout.generation(one.id), 'memory.img'),
    ];
    for (const file of read) {
      const opened = await store.open(two.id);
      const before = await store.restoredRecord(opened);
      expect(before).toBeDefined();
      expect(await store.restoredRecord(opened)).toBe(before);
      const past = new Date(Date.now() - 60_000);
      await utimes(file, past, past);
      expect(await store.restoredRecord(opened), file).toBeUndefined();
      // Found to be whole, it is trusted again; whoever was restored before may have seen something else meanwhile.
      expect(await store.restoredRecord(await store.open(two.id))).not.toBe(before);
    }
  });

  it('opens nothing that somebody can still write, and looks at what is in it after that', async () => {
    const store = await openFixtureStore(place.directory);
    const [one] = await makeChain(store, place.layout, 1);
    const { id } = must(one, 'one');
    for (const part of ['disk.layer', 'memory.img']) {
      const file = path.join(place.layout.generation(id), part);
      await chmod(file, 0o640);
      const writer = await open(file, 'r+');
      const opening = store.open(id);
      await flipBit(file, 1);
      await writer.close();
      await expect(opening).rejects.toMatchObject({ code: 'integrity' });
      await flipBit(file, 1);
      expect((await store.open(id)).manifest.id).toBe(id);
    }
  });

  it('resumes from the newest, from where a rewind put it, and from what is made after that', async () => {
    const store = await openFixtureStore(place.directory);
    const [one, two, three] = await makeChain(store, place.layout, 3);
    if (!one || !two || !three) throw new Error('three generations');
    expect(store.current(fixtureSandboxId)).toBe(three.id);
    await store.setCurrent(fixtureSandboxId, one.id);
    const again = await openFixtureStore(place.directory);
    expect(again.current(fixtureSandboxId)).toBe(one.id);
    const branch = await makeGeneration(again, place.layout, { seed: 9, from: await again.open(one.id) });
    expect(branch.number).toBe(4);
    expect(again.current(fixtureSandboxId)).toBe(branch.id);
    const [root] = again.list(fixtureSandboxId);
    expect(root?.manifest.id).toBe(one.id);
    expect(root?.children.map(({ manifest, isCurrent }) => [manifest.number, isCurrent])).toEqual([
      [2, false],
      [4, true],
    ]);
  });

  it('names and pins in a file of its own; names are unique', async () => {
    const store = await openFixtureStore(place.directory);
    const [one, two] = await makeChain(store, place.layout, 2);
    if (!one || !two) throw new Error('two generations');
    const manifest = await readFile(path.join(place.layout.generation(one.id), 'manifest.json'), 'utf8');
    await store.label(one.id, { name: 'before-upgrade', isPinned: true });
    await expect(store.label(two.id, { name: 'before-upgrade' })).rejects.toMatchObject({ code: 'already_exists' });
    await expect(store.label(two.id, { name: '../x' })).rejects.toMatchObject({ code: 'invalid_request' });
    const again = await openFixtureStore(place.directory);
    expect(again.list(fixtureSandboxId)[0]).toMatchObject({ name: 'before-upgrade', isPinned: true });
    await again.label(one.id, { name: '' });
    expect(again.list(fixtureSandboxId)[0]?.name).toBeUndefined();
    expect(await readFile(path.join(place.layout.generation(one.id), 'manifest.json'), 'utf8')).toBe(manifest);
  });
});

describe('integrity', () => {
  const damage: [string, (file: string) => Promise<void>][] = [
    ['bit-flipped', (file) => flipBit(file, 3)],
    ['truncated', (file) => truncate(file, 2)],
    ['emptied', (file) => truncate(file, 0)],
    ['missing', (file) => rm(file)],
  ];
  for (const [what, harm] of damage)
    it.each(['state.bin', 'memory.diff', 'manifest.json'])(`refuses a ${what} %s and offers the disk`, async (part) => {
      const store = await openFixtureStore(place.directory);
      const [, two] = await makeChain(store, place.layout, 2);
      if (!two) throw new Error('two generations');
      await harm(path.join(place.layout.generation(two.id), part));
      await expect(store.open(two.id)).rejects.toMatchObject({
        code: 'integrity',
        details: { generation_id: two.id, disk_intact: true },
      });
      if (part === 'manifest.json') return;
      expect((await store.open(two.id, { need: 'disk' })).disk.path).toBe(
        path.join(place.layout.generation(two.id), 'disk.layer'),
      );
      await expect((await openFixtureStore(place.directory)).open(two.id)).rejects.toMatchObject({ code: 'integrity' });
    });

  it('refuses damage to the base of a diff, and to a disk layer below, saying that the disk is not intact', async () => {
    const store = await openFixtureStore(place.directory);
    const [one, two] = await makeChain(store, place.layout, 2);
    if (!one || !two) throw new Error('two generations');
    await flipBit(path.join(place.layout.generation(one.id), 'memory.img'), 100_000);
    await expect(store.open(two.id)).rejects.toMatchObject({ code: 'integrity', details: { disk_intact: true } });
    await flipBit(path.join(place.layout.generation(one.id), 'disk.layer'), 1);
    await expect(store.open(two.id, { need: 'disk' })).rejects.toMatchObject({ details: { disk_intact: false } });
  });

  it('refuses files swapped between two sandboxes, and directories swapped whole', async () => {
    const store = await openFixtureStore(place.directory);
    const other = '0190c2d4-0000-7000-8000-00000000bbbb';
    const one = await makeGeneration(store, place.layout, { seed: 1 });
    const two = await makeGeneration(store, place.layout, { seed: 2, sandboxId: other });
    const swap = async (a: string, b: string) => {
      await rename(a, `${a}.swap`);
      await rename(b, a);
      await rename(`${a}.swap`, b);
    };
    const at = ({ id }: GenerationManifest) => place.layout.generation(id);
    await swap(path.join(at(one), 'memory.img'), path.join(at(two), 'memory.img'));
    for (const { id } of [one, two]) await expect(store.open(id)).rejects.toMatchObject({ code: 'integrity' });
    await swap(path.join(at(one), 'memory.img'), path.join(at(two), 'memory.img'));
    for (const { id } of [one, two]) await store.open(id);
    await swap(at(one), at(two));
    for (const { id } of [one, two]) await expect(store.open(id)).rejects.toMatchObject({ code: 'integrity' });
  });

  it('falls back to the chain when a merged image is damaged', async () => {
    const store = await openFixtureStore(place.directory);
    const made = await makeChain(store, place.layout, 3);
    const last = must(made.at(-1), 'three');
    await store.ensureFullImage(last.id);
    const [name = ''] = await readdir(place.layout.mergedDirectory);
    await flipBit(path.join(place.layout.mergedDirectory, name, 'memory.img'), 5);
    await expectIntact(store, place.layout, last);
    expect(await readdir(place.layout.mergedDirectory)).toEqual([]);
  });

  it('does not offer a draft, and does not commit a part that is written meanwhile', async () => {
    const store = await openFixtureStore(place.directory);
    await using draft = await store.begin(fixtureSandboxId);
    await expect(store.open(draft.id)).rejects.toMatchObject({ code: 'not_found' });
    await writeFile(draft.path('disk.layer'), 'disk');
    await draft.sealPart('disk.layer');
    await writeFile(draft.path('disk.layer'), 'DISK');
    const first = await makeGeneration(store, place.layout, { seed: 1 });
    const { id: _id, sandboxId: _s, number: _n, parts: _p, memory: _m, ...facts } = first;
    await expect(draft.commit(facts)).rejects.toMatchObject({ code: 'conflict' });
    await draft[Symbol.asyncDispose]();
    expect((await savedEntries(place.layout)).generations).toEqual([first.id]);
  });

  it('names each difference of a host that cannot restore', async () => {
    const store = await openFixtureStore(place.directory);
    const [one] = await makeChain(store, place.layout, 1);
    const { vmm, kernelId, initramfsId, toolboxId, ...rest } = must(one, 'one');
    const facts = { ...must(vmm, 'it has memory'), kernelId, initramfsId, toolboxId };
    expect(restoreMismatches(must(one, 'one'), facts)).toEqual([]);
    expect(restoreMismatches(must(one, 'one'), { ...facts, version: '9.1', kernelId: 'new' })).toEqual([
      'version was 7.2, is 9.1',
      'kernelId was kernel, is new',
    ]);
    const diskOnly = { ...rest, kernelId, initramfsId, toolboxId, memory: { kind: 'none' } as const };
    expect(restoreMismatches(diskOnly, facts)).toHaveLength(1);
  });
});

const commitPoints = [
  'generation.before-fsync',
  'generation.before-manifest',
  'generation.before-rename',
  'generation.after-rename',
];
const mergePoints = ['merge.before-write', 'merge.before-manifest', 'merge.before-rename', 'merge.after-rename'];
const collectPoints = ['gc.before-retire', 'gc.after-retire', 'gc.before-rename', 'gc.before-remove'];

describe('a crash', () => {
  it.each(commitPoints)('at %s leaves the old state or the new one, whole', async (point) => {
    const made = await makeChain(await openFixtureStore(place.directory), place.layout, 3);
    expect(await runChild('commit', `${point}:kill`)).toBe('SIGKILL');
    const store = await openFixtureStore(place.directory);
    const hasNew = point === 'generation.after-rename';
    expect(numbersOf(store)).toEqual(hasNew ? [1, 2, 3, 4] : [1, 2, 3]);
    for (const one of made) await expectIntact(store, place.layout, one);
    const current = must(store.current(fixtureSandboxId), 'something is current');
    await expectIntact(store, place.layout, must(store.get(current), 'the current one is there'));
    if (hasNew)
      expect((await stat(path.join(place.layout.generation(current), 'disk.layer'))).mode & 0o777).toBe(0o440);
    expect((await savedEntries(place.layout)).generations).toHaveLength(hasNew ? 4 : 3);
    // The sandbox's own layer is not the store's to remove.
    expect(await readFile(place.layout.sandboxLayer(fixtureSandboxId, 'top-3'), 'utf8')).toBe('disk 3');
  });

  it.each(mergePoints)('at %s leaves the chain or its merged form', async (point) => {
    const made = await makeChain(await openFixtureStore(place.directory), place.layout, 3);
    expect(await runChild('merge', `${point}:kill`)).toBe('SIGKILL');
    const store = await openFixtureStore(place.directory);
    expect((await savedEntries(place.layout)).merged).toHaveLength(point === 'merge.after-rename' ? 1 : 0);
    for (const one of made) await expectIntact(store, place.layout, one);
    await store.ensureFullImage(must(made.at(-1), 'three').id);
    for (const one of made) await expectIntact(store, place.layout, one);
    expect((await savedEntries(place.layout)).merged).toHaveLength(1);
  });

  it.each(collectPoints)('at %s loses nothing that is kept, and the next collection finishes', async (point) => {
    const first = await openFixtureStore(place.directory);
    const made = await makeChain(first, place.layout, 3);
    await first.ensureFullImage(must(made.at(-1), 'three').id);
    // One that can go whole, besides two of which the disk layers stay.
    const other = '0190c2d4-0000-7000-8000-00000000bbbb';
    await makeGeneration(first, place.layout, { seed: 7, sandboxId: other });
    await first.forgetSandbox(other);
    expect(await runChild('collect', `${point}:kill`)).toBe('SIGKILL');
    const store = await openFixtureStore(place.directory, { keptGenerations: 1 });
    await store.collectGarbage([]);
    await expectIntact(store, place.layout, must(made.at(-1), 'three'));
    expect((await savedEntries(place.layout)).generations).toEqual(made.map(({ id }) => id).toSorted());
    for (const { id } of made.slice(0, 2))
      expect((await readdir(place.layout.generation(id))).toSorted()).toEqual([
        'disk.layer',
        'manifest.json',
        'retired.json',
      ]);
  });
});

describe('a full disk', () => {
  it.each(collectPoints)(
    'at %s keeps nothing else from being removed, and the next collection finishes',
    async (point) => {
      const first = await openFixtureStore(place.directory);
      const made = await makeChain(first, place.layout, 3);
      const last = must(made.at(-1), 'three');
      await first.ensureFullImage(last.id);
      const other = '0190c2d4-0000-7000-8000-00000000bbbb';
      for (const seed of [7, 8]) await makeGeneration(first, place.layout, { seed, sandboxId: other });
      await first.forgetSandbox(other);
      const store = await openFixtureStore(place.directory, { fault: `${point}:enospc`, keptGenerations: 1 });
      const { removed, retired, failed } = await store.collectGarbage([]);
      expect({ failed: failed.length, all: removed.length + retired.length }).toEqual({ failed: 1, all: 3 });
      await expect(store.open(must(failed[0], 'one'))).rejects.toMatchObject({ code: 'not_found' });
      expect((await store.collectGarbage([])).failed).toEqual([]);
      await expectIntact(store, place.layout, last);
      expect((await savedEntries(place.layout)).generations).toEqual(made.map(({ id }) => id).toSorted());
      for (const { id } of made.slice(0, 2))
        expect(await readdir(place.layout.generation(id))).not.toContain('state.bin');
      expect(await readdir(place.layout.labelsDirectory)).toEqual([]);
    },
  );

  it.each(commitPoints)('at %s is a clear error that leaves nothing new', async (point) => {
    const made = await makeChain(await openFixtureStore(place.directory), place.layout, 2);
    const before = await savedEntries(place.layout);
    const store = await openFixtureStore(place.directory, { fault: `${point}:enospc` });
    const from = await store.open(must(made.at(-1), 'two').id);
    await expect(makeGeneration(store, place.layout, { seed: 3, from })).rejects.toMatchObject({ code: 'disk_full' });
    expect(await savedEntries(place.layout)).toEqual(before);
    for (const one of made) await expectIntact(store, place.layout, one);
    await expectIntact(store, place.layout, {
      ...(await makeGeneration(store, place.layout, { seed: 3, from })),
      number: 3,
    });
  });

  it.each(mergePoints)('at %s leaves the chain in use', async (point) => {
    const made = await makeChain(await openFixtureStore(place.directory), place.layout, 3);
    const before = await savedEntries(place.layout);
    const store = await openFixtureStore(place.directory, { fault: `${point}:enospc` });
    const last = must(made.at(-1), 'three');
    await expect(store.ensureFullImage(last.id)).rejects.toMatchObject({ code: 'disk_full' });
    expect(await savedEntries(place.layout)).toEqual(before);
    await expectIntact(store, place.layout, last);
  });
});
