import { access, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { must } from '@aviary/core';
import { describe, expect, it } from 'vitest';
import {
  expectIntact,
  fixtureSandboxId,
  makeChain,
  makeGeneration,
  numbersOf,
  openFixtureStore,
  savedEntries,
} from './generation-fixture.ts';
import { useStoreDirectory } from './store-directory.ts';

const place = useStoreDirectory();

describe('garbage', () => {
  it('keeps the newest, pinned and used ones, and of others only what these read', async () => {
    const store = await openFixtureStore(place.directory, { keptGenerations: 2 });
    const made = await makeChain(store, place.layout, 6);
    const [one, two, three] = made;
    if (!one || !two || !three) throw new Error('six generations');
    await store.label(two.id, { isPinned: true });
    await store.collectGarbage([{ generationId: three.id }]);
    expect(numbersOf(store)).toEqual([2, 3, 5, 6]);
    for (const one of made.filter(({ number }) => [2, 3, 5, 6].includes(number)))
      await expectIntact(store, place.layout, one);
    await expect(store.open(one.id)).rejects.toMatchObject({ code: 'not_found' });
    await expect(access(path.join(place.layout.generation(one.id), 'state.bin'))).rejects.toMatchObject({
      code: 'ENOENT',
    });
    const again = await openFixtureStore(place.directory, { keptGenerations: 2 });
    for (const one of made.filter(({ number }) => [2, 3, 5, 6].includes(number)))
      await expectIntact(again, place.layout, one);
  });

  it('lets go of a base image once the chain is merged', async () => {
    const store = await openFixtureStore(place.directory, { keptGenerations: 1 });
    const made = await makeChain(store, place.layout, 3);
    const [one, , three] = made;
    if (!one || !three) throw new Error('three generations');
    await store.collectGarbage([]);
    await access(path.join(place.layout.generation(one.id), 'memory.img'));
    await store.ensureFullImage(three.id);
    await store.collectGarbage([]);
    await expect(access(path.join(place.layout.generation(one.id), 'memory.img'))).rejects.toMatchObject({
      code: 'ENOENT',
    });
    await expectIntact(await openFixtureStore(place.directory), place.layout, three);
  });

  it('keeps the memory file that a running sandbox was restored from, although a merged one replaced it', async () => {
    const store = await openFixtureStore(place.directory, { keptGenerations: 1 });
    const [, , three] = await makeChain(store, place.layout, 3);
    if (!three) throw new Error('three generations');
    const from = await store.open(three.id);
    await store.ensureFullImage(three.id);
    await store.collectGarbage([{ generationId: three.id, storageId: must(from.memory, 'it has').storage.storageId }]);
    await expectIntact(store, place.layout, await makeGeneration(store, place.layout, { seed: 4, from }));
  });

  it('refuses to delete what is current or used, defers what others need, removes the rest', async () => {
    const store = await openFixtureStore(place.directory);
    const [one, two] = await makeChain(store, place.layout, 2);
    if (!one || !two) throw new Error('two generations');
    await expect(store.delete(two.id, [])).rejects.toMatchObject({ code: 'invalid_state' });
    await expect(store.delete(one.id, [{ generationId: one.id }])).rejects.toMatchObject({ code: 'invalid_state' });
    expect(await store.delete(one.id, [])).toBe('deferred');
    expect(numbersOf(store)).toEqual([2]);
    await expectIntact(store, place.layout, two);
    await store.setCurrent(fixtureSandboxId, two.id);
    const lone = await makeGeneration(store, place.layout, { seed: 3 });
    await store.setCurrent(fixtureSandboxId, two.id);
    expect(await store.delete(lone.id, [])).toBe('removed');
  });

  it('keeps what a fork came from after its parent sandbox is deleted, and nothing after both are', async () => {
    const store = await openFixtureStore(place.directory);
    const fork = '0190c2d4-0000-7000-8000-00000000cccc';
    const made = await makeChain(store, place.layout, 3);
    const last = must(made.at(-1), 'three');
    await store.setCurrent(fork, last.id);
    await store.forgetSandbox(fixtureSandboxId);
    await store.collectGarbage([]);
    expect((await openFixtureStore(place.directory)).current(fork)).toBe(last.id);
    await expectIntact(store, place.layout, last);
    await store.forgetSandbox(fork);
    await store.collectGarbage([]);
    expect(await savedEntries(place.layout)).toEqual({ generations: [], merged: [] });
    expect(await readdir(place.layout.labelsDirectory)).toEqual([]);
  });

  it('keeps what somebody holds, until they let go', async () => {
    const store = await openFixtureStore(place.directory);
    const made = await makeGeneration(store, place.layout, { seed: 1 });
    {
      using _held = store.hold({ generationId: made.id });
      await store.forgetSandbox(fixtureSandboxId);
      await store.collectGarbage([]);
      await expectIntact(store, place.layout, made);
    }
    await store.collectGarbage([]);
    expect((await savedEntries(place.layout)).generations).toEqual([]);
  });

  it('removes nothing of a sandbox whose labels cannot be read', async () => {
    const made = await makeChain(await openFixtureStore(place.directory), place.layout, 3);
    await writeFile(place.layout.labels(fixtureSandboxId), '{"version":1,');
    const store = await openFixtureStore(place.directory, { keptGenerations: 1 });
    await store.collectGarbage([]);
    for (const one of made) await expectIntact(store, place.layout, one);
    await expect(store.label(must(made[0], 'three').id, { name: 'x' })).rejects.toMatchObject({ code: 'integrity' });
  });
});
