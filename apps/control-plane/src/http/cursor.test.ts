import { routes } from '@aviary/api-contract';
import { formatId, newId, type SandboxId } from '@aviary/core';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { joinCursor, splitCursor } from './cursor.ts';
import { compileValidator } from './validator.ts';

const isQuery = compileValidator(routes.listSnapshots.query, 'text');
const name = fc.stringMatching(/^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$/);

test('a cursor that a list gave is one that the contract takes, and comes back in its parts', () => {
  fc.assert(
    fc.property(name, (text) => {
      const parts = [text, formatId('template', newId('template'))];
      const cursor = joinCursor(...parts);
      expect(isQuery({ cursor })).toBe(true);
      expect(splitCursor(cursor)).toEqual(parts);
    }),
  );
});

test('no other text passes', () => {
  const id = formatId('template', newId('template'));
  for (const cursor of [
    '',
    '~',
    'a',
    id,
    `a~${id}~`,
    `../a~${id}`,
    `a~${formatId('sandbox', newId('template') as string as SandboxId)}`,
  ])
    expect([cursor, isQuery({ cursor })]).toEqual([cursor, false]);
});

test('the first page has none', () => {
  expect(splitCursor(undefined)).toEqual([]);
});
