import { expect, test } from 'vitest';
import { StatementNames } from './statement-names.ts';

test('a statement that is asked again has a name of its own, and keeps it', () => {
  const names = new StatementNames();
  const ask = (text: string, times: number) => Array.from({ length: times }, () => names.nameOf(text));
  expect(ask('SELECT 1', 2)).toEqual([undefined, undefined]);
  const [one, again] = ask('SELECT 1', 2);
  expect(one).toMatch(/^\w{1,63}$/);
  expect(again).toBe(one);
  expect(ask('SELECT 2', 3)[2]).not.toBe(one);
});

test('there is an end of names, and of texts that are remembered without one', () => {
  const names = new StatementNames();
  for (let i = 0; i < 10_000; i++) expect(names.nameOf(`SELECT once ${i}`)).toBeUndefined();
  const given = Array.from({ length: 1_000 }, (_, i) => [1, 2, 3].map(() => names.nameOf(`SELECT ${i}`))[2]);
  expect(new Set(given.filter((name) => name !== undefined)).size).toBe(500);
  expect(given[999]).toBeUndefined();
  expect(names.nameOf('SELECT 0')).toBe(given[0]);
});
