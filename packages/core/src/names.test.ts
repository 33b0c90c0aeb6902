import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isSafeName, parseSafeName, safeNameSource } from './index.ts';

test.each(['a', 'A1', '0', 'with-tools', 'py3.12_slim', 'x'.repeat(64)])('%s is a name', (name) => {
  expect(parseSafeName(name)).toBe(name);
});

test.each(['', '.', '..', '.hidden', '-x', '_x', 'a/b', 'a b', 'a\n', 'ü', 'x'.repeat(65), 'a\0'])(
  '%j is none',
  (name) => {
    expect(isSafeName(name)).toBe(false);
    expect(() => parseSafeName(name, 'template')).toThrow(/^template must be 1 to 64 of letters/);
  },
);

test('a name is one part of a path, whatever it is made of', () => {
  const pattern = new RegExp(`^${safeNameSource}$`);
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 70 }), (text) => {
      expect(isSafeName(text)).toBe(pattern.test(text));
      if (isSafeName(text)) expect(text).not.toMatch(/[/\\\0]|^\.|^-/);
    }),
    { numRuns: 2_000 },
  );
});
