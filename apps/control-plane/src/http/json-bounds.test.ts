import fc from 'fast-check';
import { expect, test } from 'vitest';
import { checkJsonBounds, jsonBounds } from './json-bounds.ts';

const { depth, values } = jsonBounds;
const nested = (levels: number) => '['.repeat(levels) + ']'.repeat(levels);

test.each([
  ['brackets', nested(depth + 1)],
  ['objects', '{"a":'.repeat(depth + 1)],
  ['a list', `[${'0,'.repeat(values + 1)}0]`],
  ['siblings', `[${'{},'.repeat(values)}{}]`],
  ['brackets behind a string that ends in escapes', `["\\\\",${nested(depth + 1)}]`],
])('too many %s are refused', (_name, text) => {
  expect(() => checkJsonBounds(text)).toThrow('the request body');
});

test('what is in strings counts for nothing', () => {
  for (const text of [nested(depth), `["${'[{,'.repeat(values)}"]`, `["\\"${'['.repeat(100)}"]`, '"no end [[['])
    expect(() => checkJsonBounds(text)).not.toThrow();
});

test('no JSON of a usual size is refused', () => {
  fc.assert(fc.property(fc.json({ maxDepth: 20 }), (text) => checkJsonBounds(text)));
});
