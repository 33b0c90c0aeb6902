import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KeyedLock, Semaphore } from './keyed-lock.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe('KeyedLock', () => {
  it('lets one at a time work on a key, in the order of asking, and others beside it', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ key: fc.constantFrom('a', 'b', 'c'), turns: fc.nat(4), fails: fc.boolean() }), {
          maxLength: 20,
        }),
        async (jobs) => {
          const lock = new KeyedLock<string>();
          const active = new Map<string, number>();
          const order: Record<string, number[]> = { a: [], b: [], c: [] };
          const work = async ({ key, turns, fails }: (typeof jobs)[number], index: number) => {
            active.set(key, (active.get(key) ?? 0) + 1);
            expect(active.get(key)).toBe(1);
            expect(lock.isHeld(key)).toBe(true);
            for (let left = turns; left > 0; left--) await turn();
            order[key]?.push(index);
            active.set(key, 0);
            if (fails) throw new Error('failed');
          };
          await Promise.allSettled(jobs.map((job, index) => lock.run(job.key, () => work(job, index))));
          for (const indices of Object.values(order)) expect(indices).toEqual(indices.toSorted((x, y) => x - y));
          for (const key of ['a', 'b', 'c']) expect(lock.isHeld(key)).toBe(false);
        },
      ),
      { numRuns: 50 },
    );
  });

  it('hands over what the work resolves or rejects with', async () => {
    const lock = new KeyedLock<number>();
    await expect(lock.run(1, async () => 'done')).resolves.toBe('done');
    await expect(lock.run(1, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
  });
});

describe('Semaphore', () => {
  it('lets no more than its limit work at once, and all in the end', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 5 }),
        fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 30 }),
        async (limit, jobs) => {
          const semaphore = new Semaphore(limit);
          let active = 0;
          let most = 0;
          let done = 0;
          const work = async (turns: number) => {
            most = Math.max(most, ++active);
            for (let left = turns; left > 0; left--) await turn();
            active--;
            done++;
            if (turns === 3) throw new Error('failed');
          };
          await Promise.allSettled(jobs.map((turns) => semaphore.run(() => work(turns))));
          expect(done).toBe(jobs.length);
          expect(most).toBeLessThanOrEqual(limit);
          if (jobs.length >= limit) expect(most).toBe(limit);
        },
      ),
      { numRuns: 50 },
    );
  });
});
