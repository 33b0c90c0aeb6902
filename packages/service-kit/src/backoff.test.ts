import fc from 'fast-check';
import { expect, it } from 'vitest';
import { backoffMs } from './backoff.ts';

it('doubles up to its cap, with the upper half left to chance', () => {
  fc.assert(
    fc.property(fc.nat(1_000), fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }), (attempt, chance) => {
      const delay = backoffMs(attempt, { initialMs: 100, maxMs: 30_000, random: () => chance });
      const ceiling = Math.min(30_000, 100 * 2 ** Math.min(attempt, 30));
      expect(delay).toBeGreaterThanOrEqual(ceiling / 2);
      expect(delay).toBeLessThan(ceiling + 1);
    }),
  );
  expect(backoffMs(0, { initialMs: 100, random: () => 0 })).toBe(50);
  expect(backoffMs(3, { initialMs: 100, random: () => 0 })).toBe(400);
});
