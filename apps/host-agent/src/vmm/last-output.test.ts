import { expect, it } from 'vitest';
import { lastOutputOf, withLastOutput } from './last-output.ts';

it('keeps the last lines, without blanks and control characters', () => {
  const text = `first\r\n\r\n${['a', 'b', 'c', 'd'].join('\r\n')}\n\u001b[31mKernel panic\u001b[0m\u0007 - not syncing\u0000\n`;
  expect(lastOutputOf(text)).toBe('a | b | c | d | Kernel panic - not syncing');
});

it('is short whatever a guest prints', () => {
  expect(lastOutputOf('x'.repeat(100_000))).toHaveLength(500);
  expect(lastOutputOf('')).toBe('');
});

it('says nothing where nothing is known', () => {
  expect(withLastOutput('killed', '')).toBe('killed');
  expect(withLastOutput('guest powered off', 'bye')).toBe('guest powered off; the guest printed last: bye');
});
