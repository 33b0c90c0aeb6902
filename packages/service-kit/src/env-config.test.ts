import { describe, expect, it } from 'vitest';
import { EnvReader } from './env-config.ts';

const reader = new EnvReader({ TEXT: 'x', EMPTY: '', PORT: '80', HALF: '0.5', WORD: 'eighty', ON: 'yes', OFF: '0' });
const range = { min: 1, max: 100 };

describe('EnvReader', () => {
  it('reads what is set, and takes an empty text for unset', () => {
    expect(reader.string('TEXT')).toBe('x');
    expect(reader.string('EMPTY', 'other')).toBe('other');
    expect(reader.optional('EMPTY')).toBeUndefined();
    expect(reader.integer('PORT', { fallback: 1, ...range })).toBe(80);
    expect(reader.integer('ABSENT', { fallback: 7, ...range })).toBe(7);
    expect(reader.optionalInteger('ABSENT', range)).toBeUndefined();
    expect([reader.boolean('ON'), reader.boolean('OFF', true), reader.boolean('ABSENT', true)]).toEqual([
      true,
      false,
      true,
    ]);
  });

  it.each<[string, () => unknown]>([
    ['ABSENT', () => reader.string('ABSENT')],
    ['WORD', () => reader.integer('WORD', { fallback: 1, ...range })],
    ['HALF', () => reader.integer('HALF', { fallback: 1, ...range })],
    ['PORT', () => reader.integer('PORT', { fallback: 1, min: 1, max: 79 })],
    ['TEXT', () => reader.boolean('TEXT')],
  ])('names %s when it is wrong', (field, read) => {
    expect(read).toThrow(
      expect.objectContaining({ code: 'invalid_request', details: { field }, message: expect.stringContaining(field) }),
    );
  });
});
