import { expect, it } from 'vitest';
import { lastOutputOf, withLastOutput } from './last-output.ts';

it('keeps the last lines, without blanks and control characters', () => {
  const text = `first\r\n\r\n${['a', 'b', 'c', 'd'].join('\r\n')}\n\u001b[31mall\u001b[0m\u0007 is lost\u0000\n`;
  expect(lastOutputOf(text)).toBe('a | b | c | d | all is lost');
});

it('of a kernel that panicked, shows the line that says why, however much follows', () => {
  const registers = Array.from({ length: 40 }, (_, index) => `[    9.1${index}] R${index}: ffffffff`).join('\r\n');
  const why = 'Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000009';
  const text = `[    9.000000] ${why}\r\n${registers}\r\n[    9.900000] ---[ end ${why} ]---\r\n`;
  expect(lastOutputOf(text)).toBe(why);
});

it('is short whatever a guest prints', () => {
  expect(lastOutputOf('x'.repeat(100_000))).toHaveLength(500);
  expect(lastOutputOf('')).toBe('');
});

it('says nothing where nothing is known', () => {
  expect(withLastOutput('killed', '')).toBe('killed');
  expect(withLastOutput('guest powered off', 'bye')).toBe('guest powered off; the guest printed last: bye');
});
