import { randomUUID } from 'node:crypto';
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { DiskLayer, DiskStore } from './disk-store.ts';

/** A store under test, and a way to act as the guest that has a layer as its disk. */
export interface DiskStoreSubject {
  store: DiskStore;
  /** An empty directory that the store may use. */
  directory: string;
  /** A raw base of `sizeMib` whose every byte is `fill`, below `directory`. */
  makeBase(options: { sizeMib: number; fill: number }): Promise<DiskLayer>;
  write(layer: DiskLayer, range: { offset: number; length: number; fill: number }): Promise<void>;
  /** Throws unless every byte in the range is `fill`. */
  expectBytes(layer: DiskLayer, range: { offset: number; length: number; fill: number }): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

const kib = 1024;
const mib = 1024 * kib;

/** What every disk store promises: run against each driver. */
export function describeDiskStore(name: string, setUp: () => Promise<DiskStoreSubject>): void {
  describe(`disk store ${name}`, () => {
    let subject: DiskStoreSubject;
    let base: DiskLayer;
    const newPath = () => path.join(subject.directory, `${randomUUID()}.layer`);
    const newLayer = (on: DiskLayer = base, sizeMib = 64) =>
      subject.store.createLayer({ path: newPath(), base: on, sizeMib, uid: 12_345 });

    beforeAll(async () => {
      subject = await setUp();
      base = await subject.makeBase({ sizeMib: 16, fill: 0xb0 });
    });
    afterAll(() => subject[Symbol.asyncDispose]());

    test('a new layer shows the base, is as large as asked, takes next to nothing and belongs to its uid alone', async () => {
      const layer = await newLayer();
      await subject.expectBytes(layer, { offset: 0, length: 16 * mib, fill: 0xb0 });
      await subject.expectBytes(layer, { offset: 16 * mib, length: 48 * mib, fill: 0 });
      expect(await subject.store.virtualSizeMib(layer)).toBe(64);
      expect(await subject.store.allocatedBytes(layer)).toBeLessThan(64 * kib);
      const { uid, mode } = await stat(layer.path);
      expect(uid).toBe(12_345);
      expect(mode & 0o777).toBe(0o600);
    });

    test('what a guest writes stays in its layer, and takes little more than what was written', async () => {
      const [one, other] = [await newLayer(), await newLayer()];
      await subject.write(one, { offset: 5 * mib, length: 4 * kib, fill: 0x11 });
      await subject.write(one, { offset: 60 * mib, length: 4 * kib, fill: 0x12 });
      await subject.expectBytes(one, { offset: 5 * mib, length: 4 * kib, fill: 0x11 });
      await subject.expectBytes(one, { offset: 5 * mib + 4 * kib, length: 64 * kib, fill: 0xb0 });
      await subject.expectBytes(one, { offset: 60 * mib, length: 4 * kib, fill: 0x12 });
      await subject.expectBytes(other, { offset: 0, length: 16 * mib, fill: 0xb0 });
      await subject.expectBytes(base, { offset: 0, length: 16 * mib, fill: 0xb0 });
      // The first writes may bring tables with them; after that each takes about its own size.
      const before = await subject.store.allocatedBytes(one);
      expect(before).toBeLessThan(512 * kib);
      await subject.write(one, { offset: 7 * mib, length: 4 * kib, fill: 0x13 });
      await subject.write(one, { offset: 50 * mib, length: 4 * kib, fill: 0x14 });
      expect((await subject.store.allocatedBytes(one)) - before).toBeLessThanOrEqual(32 * kib);
    });

    test('layers on a frozen layer see it, do not change it, and name everything below them, nearest first', async () => {
      const lower = await newLayer();
      await subject.write(lower, { offset: 0, length: 8 * kib, fill: 0x21 });
      await subject.store.freeze(lower);
      expect((await stat(lower.path)).mode & 0o777).toBe(0o444);
      const [one, other] = [await newLayer(lower), await newLayer(lower)];
      await subject.write(one, { offset: 4 * kib, length: 4 * kib, fill: 0x22 });
      await subject.expectBytes(one, { offset: 0, length: 4 * kib, fill: 0x21 });
      await subject.expectBytes(one, { offset: 4 * kib, length: 4 * kib, fill: 0x22 });
      await subject.expectBytes(other, { offset: 0, length: 8 * kib, fill: 0x21 });
      await subject.expectBytes(lower, { offset: 0, length: 8 * kib, fill: 0x21 });
      expect(await subject.store.chain(one)).toEqual([lower, base]);
      expect(await subject.store.chain(base)).toEqual([]);
    });

    test('a flattened layer holds the whole disk and needs nothing below it', async () => {
      const lower = await newLayer();
      await subject.write(lower, { offset: 1 * mib, length: 4 * kib, fill: 0x31 });
      const upper = await newLayer(lower);
      await subject.write(upper, { offset: 40 * mib, length: 4 * kib, fill: 0x32 });
      const flat = await subject.store.flatten({ layer: upper, path: newPath() });
      await subject.store.remove(upper);
      await subject.store.remove(lower);
      expect(await subject.store.chain(flat)).toEqual([]);
      expect(await subject.store.virtualSizeMib(flat)).toBe(64);
      await subject.expectBytes(flat, { offset: 0, length: 1 * mib, fill: 0xb0 });
      await subject.expectBytes(flat, { offset: 1 * mib, length: 4 * kib, fill: 0x31 });
      await subject.expectBytes(flat, { offset: 40 * mib, length: 4 * kib, fill: 0x32 });
      expect(await subject.store.allocatedBytes(flat)).toBeLessThan(18 * mib);
    });

    test('refuses a disk smaller than its base and leaves no file', async () => {
      const before = await readdir(subject.directory);
      await expect(newLayer(base, 15)).rejects.toMatchObject({ code: 'invalid_request' });
      expect(await readdir(subject.directory)).toEqual(before);
    });

    test('refuses to overwrite a file, which keeps its content', async () => {
      const layer = await newLayer();
      await subject.write(layer, { offset: 0, length: 4 * kib, fill: 0x41 });
      const again = { path: layer.path, base, sizeMib: 64, uid: 1 };
      await expect(subject.store.createLayer(again)).rejects.toMatchObject({ code: 'already_exists' });
      await expect(subject.store.flatten({ layer: base, path: layer.path })).rejects.toMatchObject({
        code: 'already_exists',
      });
      await subject.expectBytes(layer, { offset: 0, length: 4 * kib, fill: 0x41 });
    });

    test('says not_found for a layer or base that is gone; removing it again is no error', async () => {
      const layer = await newLayer();
      await subject.store.remove(layer);
      await subject.store.remove(layer);
      await expect(subject.store.sync(layer)).rejects.toMatchObject({ code: 'not_found' });
      await expect(newLayer(layer)).rejects.toMatchObject({ code: 'not_found' });
    });

    test('flushes a layer', async () => {
      const layer = await newLayer();
      await subject.write(layer, { offset: 0, length: 4 * kib, fill: 0x51 });
      await subject.store.sync(layer);
      await subject.expectBytes(layer, { offset: 0, length: 4 * kib, fill: 0x51 });
    });
  });
}
