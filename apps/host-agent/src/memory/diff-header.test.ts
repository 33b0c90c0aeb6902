import { nilUuid } from '@aviary/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decode, encode, maxEntries } from './diff-header.ts';
import { blockSize, fullMapping, type MappingEntry, merge } from './mapping.ts';

const base = '0190c2d4-0000-7000-8000-000000000001';
const own = '0190c2d4-0000-7000-8000-000000000002';
const memoryBytes = 64 * blockSize;

/** A diff on `base` in which each listed block was written, every third of them with zeros. */
function diffOf(written: readonly number[]) {
  let cursor = blockSize;
  const entries = [...new Set(written)]
    .sort((a, b) => a - b)
    .map((block, index): MappingEntry => {
      const isZero = index % 3 === 2;
      const entry = {
        offset: block * blockSize,
        length: blockSize,
        generationId: isZero ? nilUuid : own,
        storageOffset: isZero ? 0 : cursor,
      };
      if (!isZero) cursor += blockSize;
      return entry;
    });
  const mapping = merge(fullMapping(base, memoryBytes), entries);
  return { diff: { memoryBytes, generationNumber: 7, id: own, baseId: base, mapping }, tableOffset: cursor };
}

function sample() {
  const { diff, tableOffset } = diffOf([1, 5, 6, 7, 9, 63]);
  const { header, table } = encode(diff, tableOffset);
  return { diff, header, table, fileBytes: tableOffset + table.length };
}

const refused = (code: string, message?: RegExp) =>
  expect.objectContaining({ code, ...(message ? { message: expect.stringMatching(message) } : {}) });

describe('diff header', () => {
  it('reads back what it wrote', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(63)), (written) => {
        const { diff, tableOffset } = diffOf(written);
        const { header, table } = encode(diff, tableOffset);
        expect(decode(header, table, tableOffset + table.length)).toEqual(diff);
      }),
    );
  });

  it('refuses every single flipped bit of header and table', () => {
    const { header, table, fileBytes } = sample();
    for (const part of [header, table])
      for (let bit = 0; bit < part.length * 8; bit += part === header && bit >= 640 ? 997 : 1) {
        part[bit >> 3] = (part[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        expect(() => decode(header, table, fileBytes), `bit ${bit}`).toThrow(refused('integrity'));
        part[bit >> 3] = (part[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      }
    expect(() => decode(header, table, fileBytes)).not.toThrow();
  });

  it('names bad magic, version, block size and checksum', () => {
    const corrupt = (offset: number) => {
      const { header, table, fileBytes } = sample();
      header[offset] = (header[offset] ?? 0) + 1;
      return () => decode(header, table, fileBytes);
    };
    expect(corrupt(0)).toThrow(refused('integrity', /magic/));
    expect(corrupt(8)).toThrow(refused('integrity', /version 2/));
    expect(corrupt(12)).toThrow(refused('integrity', /block size/));
    expect(corrupt(24)).toThrow(refused('integrity', /checksum/));
    expect(corrupt(4000)).toThrow(refused('integrity', /checksum/));
  });

  it('refuses a truncated header, table or file', () => {
    const { header, table, fileBytes } = sample();
    expect(() => decode(header.subarray(0, 100), table, fileBytes)).toThrow(refused('integrity', /shorter/));
    expect(() => decode(header, table.subarray(40), fileBytes)).toThrow(refused('integrity', /cut off/));
    expect(() => decode(header, table, fileBytes - blockSize)).toThrow(refused('integrity', /size/));
    expect(() => decode(header, table, fileBytes + 1)).toThrow(refused('integrity', /size/));
  });

  it('refuses an absurd entry count before it allocates for it', () => {
    const { header, table, fileBytes } = sample();
    header.writeUInt32LE(maxEntries + 1, 72);
    expect(() => decode(header, table, fileBytes)).toThrow(refused('integrity', /entries/));
  });

  it('refuses blocks outside the file although the checksum is right', () => {
    const { diff, tableOffset } = diffOf([1, 2]);
    const moved = diff.mapping.map((entry) =>
      entry.generationId === own ? { ...entry, storageOffset: entry.storageOffset + 4 * blockSize } : entry,
    );
    const { header, table } = encode({ ...diff, mapping: moved }, tableOffset);
    expect(() => decode(header, table, tableOffset + table.length)).toThrow(refused('integrity', /outside/));
  });
});
