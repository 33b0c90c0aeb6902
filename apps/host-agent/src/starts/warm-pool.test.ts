import { newId } from '@aviary/core';
import { silentLogger } from '@aviary/service-kit';
import { expect, it } from 'vitest';
import { type WarmEntry, WarmPool, type WarmPoolDeps } from './warm-pool.ts';

const never = new AbortController().signal;
const [one, two, three] = [newId('generation'), newId('generation'), newId('generation')];

/** A pool whose microVMs cost nothing, and the clock that it looks at. */
function fakePool(size: number) {
  const made: string[] = [];
  const time = { nowMs: 0 };
  const generations = { restoredRecord: async () => 'as it was' };
  const deps = { generations, logger: silentLogger } as unknown as WarmPoolDeps;
  const make = async (_deps: unknown, generationId: string) => {
    made.push(generationId);
    const { promise: exited } = Promise.withResolvers();
    const warm = { record: { sandboxId: newId('sandbox') }, running: { vm: { exited } } };
    return { warm, generation: {}, imageRecord: 'as it was' } as unknown as WarmEntry;
  };
  const pool = new WarmPool(deps, { size, make, now: () => time.nowMs });
  const fill = async (times = 1) => {
    for (let time = 0; time < times; time++) await pool.fillOnce(never);
  };
  return { pool, made, time, fill };
}

it('makes one at a time of what was used last, and none while the host is busy', async () => {
  const { pool, made, time, fill } = fakePool(2);
  await fill();
  pool.want(one);
  pool.want(two);
  time.nowMs = 499;
  await fill();
  expect(made).toEqual([]);
  time.nowMs = 500;
  await pool.duringStart(() => fill());
  expect(made).toEqual([]);
  time.nowMs = 1_000;
  await fill(5);
  expect(made).toEqual([two, two, one, one]);
  expect(await pool.take(one)).toBeDefined();
  expect([pool.ready, await pool.take(three)]).toEqual([3, undefined]);
});
