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
  const layout = { sandboxRun: () => '/nonexistent' };
  const deps = { generations, layout, logger: silentLogger } as unknown as WarmPoolDeps;
  const killed: string[] = [];
  const make = async (_deps: unknown, generationId: string) => {
    made.push(generationId);
    const { promise: exited } = Promise.withResolvers();
    const kill = async () => {
      killed.push(generationId);
      throw new Error('it does not end');
    };
    const guest = { attached: { endAll: () => undefined }, [Symbol.dispose]: () => undefined };
    const record = { sandboxId: newId('sandbox'), state: 'starting', launch: { runDirectoryId: newId('sandbox') } };
    const warm = { record, running: { vm: { exited, kill }, guest } };
    return { warm, generation: {}, imageRecord: 'as it was' } as unknown as WarmEntry;
  };
  const pool = new WarmPool(deps, { size, make, now: () => time.nowMs });
  const fill = async (times = 1) => {
    for (let time = 0; time < times; time++) await pool.fillOnce(never);
  };
  return { pool, made, killed, time, fill };
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

it('ends all that it lets go of, though one does not end', async () => {
  const { pool, made, killed, time, fill } = fakePool(2);
  const fillAll = async () => {
    time.nowMs += 1_000;
    await fill(5);
  };
  pool.want(one);
  await fillAll();
  pool.want(two);
  pool.want(three);
  await fillAll();
  expect(killed).toEqual([one, one]);
  expect(made).toEqual([one, one, three, three, two, two]);
  await pool.drain();
  expect(killed).toHaveLength(6);
  expect(pool.ready).toBe(0);
});
