import { expect, test } from 'vitest';
import { must, unreachable } from './index.ts';

test.each([0, '', false, []])('%o is there', (value) => {
  expect(must(value, 'it is there')).toBe(value);
});

test.each([null, undefined])('%o breaks the guarantee, which is named', (value) => {
  expect(() => must(value, 'the row was just written')).toThrow('the row was just written');
});

test('a case that cannot be says so', () => {
  expect(() => unreachable('x' as never)).toThrow('unreachable: x');
});
