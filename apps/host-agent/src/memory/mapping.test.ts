import { nilUuid } from '@aviary/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  blockSize,
  lookup,
  type Mapping,
  type MappingEntry,
  merge,
  normalise,
  split,
  storagesOf,
  totalMappingFault,
  zeroMapping,
} from './mapping.ts';

const blocks = 24;
const memoryBytes = blocks * blockSize;
const ids = [nilUuid, ...[1, 2, 3].map((n) => `0190c2d4-0000-7000-8000-00000000000${n}`)];

/** The naive model: for each block nothing, or which block of which storage. */
type Model = (string | undefined)[];

function toModel(mapping: Mapping): Model {
  const model: Model = new Array(blocks).fill(undefined);
  for (const { offset, length, generationId, storageOffset } of mapping)
    for (let at = 0; at < length; at += blockSize) {
      const index = (offset + at) / blockSize;
      expect(model[index], 'no block is mapped twice').toBeUndefined();
      model[index] = generationId === nilUuid ? nilUuid : `${generationId}@${storageOffset + at}`;
    }
  return model;
}

const blockArbitrary = fc.option(
  fc.record({ generationId: fc.constantFrom(...ids), storageBlock: fc.integer({ min: 0, max: 4 }) }),
  { nil: undefined },
);
/** One entry per block, in any order: what `normalise` has to tidy. */
const rawArbitrary = fc.array(blockArbitrary, { minLength: blocks, maxLength: blocks }).map((list) =>
  list.flatMap((block, index): MappingEntry[] =>
    block
      ? [
          {
            offset: index * blockSize,
            length: blockSize,
            generationId: block.generationId,
            storageOffset: block.storageBlock * blockSize,
          },
        ]
      : [],
  ),
);
const shuffledArbitrary = rawArbitrary.chain((list) => fc.shuffledSubarray(list, { minLength: list.length }));
const mappingArbitrary = rawArbitrary.map(normalise);
const totalArbitrary = mappingArbitrary.map((mapping) => merge(zeroMapping(memoryBytes), mapping));

describe('mapping', () => {
  it('normalise keeps the meaning, and does nothing the second time', () => {
    fc.assert(
      fc.property(shuffledArbitrary, (entries) => {
        const once = normalise(entries);
        expect(toModel(once)).toEqual(toModel(entries));
        expect(normalise(once)).toEqual(once);
      }),
    );
  });

  it('merge takes the upper one where it has a block, zeros included, else the lower one', () => {
    fc.assert(
      fc.property(mappingArbitrary, mappingArbitrary, (base, diff) => {
        const [lower, upper] = [toModel(base), toModel(diff)];
        const merged = merge(base, diff);
        expect(toModel(merged)).toEqual(lower.map((block, index) => upper[index] ?? block));
        expect(normalise(merged)).toEqual(merged);
      }),
    );
  });

  it('merge is associative', () => {
    fc.assert(
      fc.property(mappingArbitrary, mappingArbitrary, mappingArbitrary, (a, b, c) => {
        expect(merge(merge(a, b), c)).toEqual(merge(a, merge(b, c)));
      }),
    );
  });

  it('a total mapping stays total, whatever is merged onto it', () => {
    fc.assert(
      fc.property(totalArbitrary, mappingArbitrary, (total, diff) => {
        expect(totalMappingFault(merge(total, diff), memoryBytes)).toBeUndefined();
      }),
    );
  });

  it('lookup and split agree with the model at every block', () => {
    fc.assert(
      fc.property(mappingArbitrary, fc.nat(blocks - 1), fc.nat(blocks), (mapping, first, count) => {
        const model = toModel(mapping);
        for (const [index, block] of model.entries()) {
          const found = lookup(mapping, index * blockSize);
          const text =
            found && (found.generationId === nilUuid ? nilUuid : `${found.generationId}@${found.storageOffset}`);
          expect(text).toBe(block);
        }
        const part = toModel(split(mapping, { offset: first * blockSize, length: count * blockSize }));
        expect(part).toEqual(
          model.map((block, index) => (index >= first && index < first + count ? block : undefined)),
        );
      }),
    );
  });

  it('names the storages in use without the nil id', () => {
    const [, one = '', two = ''] = ids;
    const entry = (offset: number, generationId: string) => ({
      offset,
      length: blockSize,
      generationId,
      storageOffset: 0,
    });
    expect(storagesOf([entry(0, two), entry(4096, nilUuid), entry(8192, one), entry(12288, two)])).toEqual([two, one]);
  });

  it.each([
    ['a gap', [{ offset: blockSize, length: memoryBytes - blockSize }]],
    [
      'an overlap',
      [
        { offset: 0, length: 2 * blockSize },
        { offset: blockSize, length: memoryBytes - blockSize },
      ],
    ],
    ['a short end', [{ offset: 0, length: memoryBytes - blockSize }]],
    ['a long end', [{ offset: 0, length: memoryBytes + blockSize }]],
    ['an unaligned entry', [{ offset: 0, length: memoryBytes - 1 }]],
    [
      'unmerged neighbours',
      [
        { offset: 0, length: blockSize },
        { offset: blockSize, length: memoryBytes - blockSize },
      ],
    ],
  ])('sees %s', (_what, parts) => {
    const entries = parts.map((part) => ({ ...part, generationId: nilUuid, storageOffset: 0 }));
    expect(totalMappingFault(entries, memoryBytes)).toBeTypeOf('string');
  });
});
