import { createHash } from 'node:crypto';
import { mkdtemp, open, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { must, nilUuid, uuidv7 } from '@aviary/core';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { hashChunkBytes, hashFile } from './content-hash.ts';
import type { DirtyRange, OnRange } from './diff-writer.ts';
import { blockSize, fullMapping, type Mapping, storagesOf } from './mapping.ts';
import { materialise, mergeDiffs, readDiff, writeDiff } from './memory-diff.ts';
import { copyDurably } from './sparse-copy.ts';

const blocks = 1024;
const memoryBytes = blocks * blockSize;

/** A small deterministic generator, so that a failure can be repeated. */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'memory-diff-'));
});
afterEach(() => rm(directory, { recursive: true }));

const at = (name: string) => path.join(directory, name);
const locate = (id: string) => at(id);

async function hashOf(file: string): Promise<string> {
  const handle = await open(file, 'r');
  try {
    return await hashFile(handle, (await handle.stat()).size);
  } finally {
    await handle.close();
  }
}

/** Changes `memory` as a guest would, zeroing some pages, and returns what was written as ranges in order. */
function scribble(memory: Buffer, random: (below: number) => number): DirtyRange[] {
  const ranges: DirtyRange[] = [];
  for (let block = random(20); block < blocks; block += 1 + random(40)) {
    const count = Math.min(1 + random(6), blocks - block);
    const range = memory.subarray(block * blockSize, (block + count) * blockSize);
    for (let index = 0; index < count; index++)
      range.fill(random(3) === 0 ? 0 : 1 + random(255), index * blockSize, (index + 1) * blockSize);
    ranges.push({ offset: block * blockSize, data: Buffer.from(range) });
    block += count;
  }
  return ranges;
}

const feed = (ranges: DirtyRange[]) => async (onRange: OnRange) => {
  for (const range of ranges) await onRange(range);
};

/** A full base image and `length` diffs on it, each against the one before; and the memory after each. */
async function makeChain(length: number, seed = 1) {
  const random = generator(seed);
  const memory = Buffer.alloc(memoryBytes);
  scribble(memory, random);
  const baseId = uuidv7();
  await writeFile(at(baseId), memory);
  const states = [{ id: baseId, memory: Buffer.from(memory), mapping: fullMapping(baseId, memoryBytes) as Mapping }];
  for (let generationNumber = 2; generationNumber < length + 2; generationNumber++) {
    const below = must(states.at(-1), 'the base is there');
    const id = uuidv7();
    const ranges = scribble(memory, random);
    const facts = { id, baseId: below.id, generationNumber, memoryBytes, baseMapping: below.mapping };
    const written = await writeDiff(at(id), facts, feed(ranges));
    expect(written.sha256).toBe(await hashOf(at(id)));
    expect(written.dirtyBytes).toBe(ranges.reduce((sum, { data }) => sum + data.length, 0));
    states.push({ id, memory: Buffer.from(memory), mapping: written.mapping });
  }
  return states;
}

describe('memory diff', () => {
  it('gives back every state of a chain of ten, pages that the guest zeroed among them', async () => {
    for (const { id, memory, mapping } of await makeChain(10)) {
      await materialise(at('image'), { mapping, memoryBytes }, locate);
      expect((await readFile(at('image'))).equals(memory)).toBe(true);
      await rm(at('image'));
      if (mapping.length > 1) expect((await readDiff(at(id))).mapping).toEqual(mapping);
    }
  });

  it('reads a page zeroed since the base as zero, not as the base had it', async () => {
    const baseId = uuidv7();
    const id = uuidv7();
    await writeFile(at(baseId), Buffer.alloc(memoryBytes, 7));
    const facts = { id, baseId, generationNumber: 2, memoryBytes, baseMapping: fullMapping(baseId, memoryBytes) };
    const { bytes, mapping } = await writeDiff(
      at(id),
      facts,
      feed([{ offset: blockSize, data: Buffer.alloc(blockSize) }]),
    );
    expect(mapping[1]).toEqual({ offset: blockSize, length: blockSize, generationId: nilUuid, storageOffset: 0 });
    expect(bytes, 'a zero page takes no block').toBeLessThan(2 * blockSize);
    await materialise(at('image'), { mapping, memoryBytes }, locate);
    const image = await readFile(at('image'));
    expect([image[blockSize - 1], image[blockSize], image[2 * blockSize - 1], image[2 * blockSize]]).toEqual([
      7, 0, 0, 7,
    ]);
  });

  it('merges a chain to one diff on its base, and to one on nothing', async () => {
    const states = await makeChain(9, 5);
    const { memory, mapping } = must(states.at(-1), 'the last state');
    const baseId = must(states[0], 'the base').id;
    for (const keepId of [baseId, undefined]) {
      const id = uuidv7();
      const facts = { id, generationNumber: 11, memoryBytes, mapping, ...(keepId === undefined ? {} : { keepId }) };
      const merged = await mergeDiffs(at(id), facts, locate);
      expect(storagesOf(merged.mapping).toSorted()).toEqual((keepId === undefined ? [id] : [baseId, id]).toSorted());
      const image = at(`image-of-${id}`);
      await materialise(image, { mapping: merged.mapping, memoryBytes }, locate);
      expect((await readFile(image)).equals(memory)).toBe(true);
      expect(merged.sha256).toBe(await hashOf(at(id)));
    }
  });

  it('writes a diff longer than its buffers, with the same hash as a reading of the file gives', async () => {
    const large = 40 * hashChunkBytes;
    const id = uuidv7();
    const facts = {
      id,
      baseId: nilUuid,
      generationNumber: 1,
      memoryBytes: large,
      baseMapping: fullMapping(nilUuid, large),
    };
    const data = Buffer.alloc(large, 9);
    const pieces = [0, 3 * blockSize, 9 * hashChunkBytes + blockSize, large].map((end, index, ends) => ({
      offset: index === 0 ? 0 : must(ends[index - 1], 'not the first'),
      data: data.subarray(index === 0 ? 0 : must(ends[index - 1], 'not the first'), end),
    }));
    const written = await writeDiff(at(id), facts, feed(pieces));
    expect(written.sha256).toBe(await hashOf(at(id)));
    await materialise(at('image'), { mapping: written.mapping, memoryBytes: large }, locate);
    expect((await readFile(at('image'))).equals(data)).toBe(true);
  });

  it('leaves nothing when the source fails, and says when ranges are out of order', async () => {
    const facts = {
      id: uuidv7(),
      baseId: nilUuid,
      generationNumber: 1,
      memoryBytes,
      baseMapping: fullMapping(nilUuid, memoryBytes),
    };
    await expect(
      writeDiff(at('diff'), facts, async (onRange) => {
        await onRange({ offset: 0, data: Buffer.alloc(blockSize, 1) });
        throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' });
      }),
    ).rejects.toMatchObject({ code: 'ENOSPC' });
    const range = { offset: blockSize, data: Buffer.alloc(blockSize, 1) };
    await expect(writeDiff(at('diff'), facts, feed([range, range]))).rejects.toThrow(/out of order/);
    const outside = { offset: memoryBytes, data: Buffer.alloc(blockSize, 1) };
    await expect(writeDiff(at('diff'), facts, feed([outside]))).rejects.toThrow(/outside memory/);
    expect(await readdir(directory)).toEqual([]);
  });

  it('refuses a diff that is cut off', async () => {
    const next = must((await makeChain(1, 8)).at(-1), 'the last state');
    const { size } = await stat(at(next.id));
    for (const length of [size - 1, size - blockSize, blockSize, 10, 0]) {
      await truncate(at(next.id), length);
      await expect(readDiff(at(next.id)), `cut to ${length}`).rejects.toMatchObject({ code: 'integrity' });
    }
  });
});

describe('content hash', () => {
  it('is the hash of size and chunk digests, whether zeros are holes or written', async () => {
    const size = 3 * hashChunkBytes + 5000;
    const content = Buffer.alloc(size);
    content.fill(3, hashChunkBytes + 10, hashChunkBytes + 20);
    content.fill(4, size - 3);
    await writeFile(at('dense'), content);
    const sparse = await open(at('sparse'), 'w');
    await sparse.truncate(size);
    await sparse.write(content, hashChunkBytes + 10, 10, hashChunkBytes + 10);
    await sparse.write(content, size - 3, 3, size - 3);
    await sparse.close();
    const header = Buffer.alloc(8);
    header.writeBigUInt64LE(BigInt(size));
    const expected = createHash('sha256').update(header);
    for (let start = 0; start < size; start += hashChunkBytes)
      expected.update(
        createHash('sha256')
          .update(content.subarray(start, start + hashChunkBytes))
          .digest(),
      );
    const hex = expected.digest('hex');
    expect(await hashOf(at('dense'))).toBe(hex);
    expect(await hashOf(at('sparse'))).toBe(hex);
  });

  it('changes with any bit and with the size', async () => {
    await writeFile(at('file'), Buffer.alloc(5000));
    const before = await hashOf(at('file'));
    await truncate(at('file'), 5001);
    expect(await hashOf(at('file'))).not.toBe(before);
    await truncate(at('file'), 5000);
    expect(await hashOf(at('file'))).toBe(before);
    const file = await open(at('file'), 'r+');
    await file.write(Buffer.from([1]), 0, 1, 4999);
    await file.close();
    expect(await hashOf(at('file'))).not.toBe(before);
  });
});

describe('durable copy', () => {
  it('keeps holes, drops zero blocks, and does not overwrite', async () => {
    const source = await open(at('source'), 'w');
    await source.truncate(64 * 1024 * 1024);
    await source.write(Buffer.alloc(1024 * 1024), 0, 1024 * 1024, 0);
    await source.write(Buffer.alloc(blockSize, 5), 0, blockSize, 32 * 1024 * 1024);
    await source.close();
    await copyDurably(at('source'), at('copy'));
    expect((await readFile(at('copy'))).equals(await readFile(at('source')))).toBe(true);
    expect((await stat(at('copy'))).blocks * 512).toBeLessThanOrEqual(1024 * 1024);
    await expect(copyDurably(at('source'), at('copy'))).rejects.toMatchObject({ code: 'EEXIST' });
  });
});
