import { routes } from '@aviary/api-contract';
import { formatId, newId, type SandboxId } from '@aviary/core';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type IdRange, joinCursor, pageById, splitCursor } from './cursor.ts';
import { compileValidator } from './validator.ts';

const { limit: limitSchema } = routes.listSandboxes.query.properties;
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

test('a list by id is read page after page until there is no more, each row once', async () => {
  const ids = Array.from({ length: 7 }, () => newId('sandbox')).sort();
  const list = async ({ limit, after = '' as SandboxId }: IdRange<'sandbox'>) =>
    ids.filter((id) => id > after).slice(0, limit);
  const page = (cursor?: string) =>
    pageById(
      { limit: 3, ...(cursor ? { cursor } : {}) },
      { kind: 'sandbox', list, idOf: (id) => id, view: (id) => id },
    );
  const first = await page();
  const second = await page(first.next_cursor ?? '');
  const third = await page(second.next_cursor ?? '');
  expect([first.items, second.items, third.items]).toEqual([ids.slice(0, 3), ids.slice(3, 6), ids.slice(6)]);
  expect(third.next_cursor).toBeNull();
});

test('a page that just holds the rest is the last one', async () => {
  const ids = [newId('sandbox'), newId('sandbox')];
  const list = async ({ limit }: IdRange<'sandbox'>) => ids.slice(0, limit);
  const page = await pageById({ limit: 2 }, { kind: 'sandbox', list, idOf: (id) => id, view: (id) => id });
  expect(page).toEqual({ items: ids, next_cursor: null });
});

test('a query that says no limit gets the default of the contract', async () => {
  let asked: number | undefined;
  const list = async ({ limit }: IdRange<'sandbox'>): Promise<SandboxId[]> => {
    asked = limit;
    return [];
  };
  await pageById({}, { kind: 'sandbox', list, idOf: (id) => id, view: (id) => id });
  expect(asked).toBe(Number((limitSchema as { default?: unknown }).default) + 1);
});
