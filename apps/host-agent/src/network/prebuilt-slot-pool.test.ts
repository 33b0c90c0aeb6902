import { AppError } from '@aviary/core';
import { silentLogger, waitFor } from '@aviary/service-kit';
import { VirtualClock } from '@aviary/service-kit/virtual-clock';
import { expect, test } from 'vitest';
import type { NetworkSlot } from './network-slot.ts';
import { PrebuiltSlotPool, type SlotBuilder, type SlotPoolOptions } from './prebuilt-slot-pool.ts';
import { slotAddress } from './slot-address.ts';

/** A kernel in memory: builds wait for `gate` while it is set, and fail as often as `failures` says. */
class FakeKernel implements SlotBuilder {
  readonly built = new Set<number>();
  readonly foreign = new Set<number>();
  readonly log: string[] = [];
  failures = 0;
  removeFailures = 0;
  gate: Promise<void> | undefined;
  building = 0;
  mostBuilding = 0;

  async build(index: number): Promise<NetworkSlot> {
    this.mostBuilding = Math.max(this.mostBuilding, ++this.building);
    try {
      await this.gate;
      if (this.failures > 0) {
        this.failures--;
        throw new Error(`no room for ${index}`);
      }
      if (this.built.has(index)) throw new AppError('already_exists', `slot ${index} is there already`);
      this.built.add(index);
      this.log.push(`build ${index}`);
      return this.describe(index);
    } finally {
      this.building--;
    }
  }

  async remove(index: number): Promise<void> {
    if (this.removeFailures > 0) {
      this.removeFailures--;
      throw new Error(`slot ${index} is busy`);
    }
    this.built.delete(index);
    this.log.push(`remove ${index}`);
  }

  describe(index: number): NetworkSlot {
    return slotAddress(index);
  }

  async isBuilt(index: number): Promise<boolean> {
    return this.built.has(index);
  }

  async isForeign(index: number): Promise<boolean> {
    return this.foreign.has(index);
  }

  async scan(): Promise<number[]> {
    return [...this.built].filter((index) => !this.foreign.has(index));
  }
}

function setUp(options: SlotPoolOptions = {}) {
  const builder = new FakeKernel();
  const clock = new VirtualClock();
  const calls = { prepareHost: 0 };
  const prepareHost = async () => {
    calls.prepareHost++;
  };
  const pool = new PrebuiltSlotPool({ builder, prepareHost, clock, logger: silentLogger }, { size: 2, ...options });
  return { builder, clock, pool, calls };
}

const settle = (what: string, probe: () => boolean) => waitFor({ what, timeoutMs: 2_000, intervalMs: 1 }, probe);

test('fills itself to its size after reclaim, and refills after each acquire', async () => {
  const { builder, pool, calls } = setUp();
  await pool.reclaim(new Set());
  await settle('filling', () => pool.ready === 2);
  expect(calls.prepareHost).toBe(1);
  const slot = await pool.acquire();
  expect(slot.index).toBe(1);
  await settle('refilling', () => pool.ready === 2);
  expect(builder.built).toEqual(new Set([1, 2, 3]));
});

test('builds no more at once than allowed, and never gives one slot to two', async () => {
  const { builder, pool } = setUp({ size: 0, buildConcurrency: 3, maxSlots: 40 });
  const slots = await Promise.all(Array.from({ length: 40 }, () => pool.acquire()));
  expect(new Set(slots.map(({ index }) => index)).size).toBe(40);
  expect(builder.mostBuilding).toBe(3);
});

test('says no_capacity when every slot is in use or promised, and has room again after a release', async () => {
  const { pool } = setUp({ maxSlots: 2 });
  const [first] = await Promise.all([pool.acquire(), pool.acquire()]);
  await expect(pool.acquire()).rejects.toMatchObject({ code: 'no_capacity' });
  await pool.release(first);
  expect((await pool.acquire()).index).toBe(first.index);
});

test('takes a released slot apart before it is built again', async () => {
  const { builder, pool } = setUp({ size: 1, maxSlots: 1 });
  const slot = await pool.acquire();
  await pool.release(slot);
  await pool.acquire();
  expect(builder.log).toEqual(['build 1', 'remove 1', 'build 1']);
});

test('refuses to release what is not in use', async () => {
  const { pool } = setUp();
  const slot = await pool.acquire();
  await pool.release(slot);
  await expect(pool.release(slot)).rejects.toMatchObject({ code: 'invalid_state' });
});

test('a slot that cannot be removed does not fail the release, and is removed before it is built again', async () => {
  const { builder, pool } = setUp({ size: 0, maxSlots: 1 });
  const slot = await pool.acquire();
  builder.removeFailures = 1;
  await pool.release(slot);
  expect(builder.built.has(1)).toBe(true);
  expect((await pool.acquire()).index).toBe(1);
  expect(builder.log).toEqual(['build 1', 'remove 1', 'build 1']);
});

test('waits out a failed build and goes on with another slot', async () => {
  const { builder, clock, pool } = setUp({ size: 0, maxSlots: 4 });
  builder.failures = 1;
  const acquired = pool.acquire();
  await settle('the failure', () => builder.failures === 0 && builder.building === 0);
  expect(builder.built.size).toBe(0);
  await clock.advance(1_000);
  expect((await acquired).index).toBe(2);
});

test('gives up at the deadline and says why no slot could be built', async () => {
  const { builder, clock, pool } = setUp({ size: 0, acquireTimeoutMs: 5_000 });
  builder.failures = Number.POSITIVE_INFINITY;
  const acquired = pool.acquire();
  await settle('the failure', () => builder.building === 0);
  const refused = expect(acquired).rejects.toMatchObject({
    code: 'deadline_exceeded',
    message: expect.stringContaining('no room for'),
  });
  await clock.advance(5_000);
  await refused;
});

test('one who stops waiting leaves the slot to the next', async () => {
  const { builder, pool } = setUp({ size: 0, maxSlots: 1 });
  const { promise, resolve: open } = Promise.withResolvers<void>();
  builder.gate = promise;
  const abort = new AbortController();
  const first = pool.acquire(abort.signal);
  abort.abort(new AppError('cancelled', 'changed my mind'));
  await expect(first).rejects.toMatchObject({ code: 'cancelled' });
  const second = pool.acquire();
  open();
  expect((await second).index).toBe(1);
});

test('reclaim removes what nobody keeps, and a kept slot is adopted once', async () => {
  const { builder, pool } = setUp({ size: 1 });
  for (const index of [1, 7, 900]) builder.built.add(index);
  await pool.reclaim(new Set([7]));
  expect(builder.log.slice(0, 2)).toEqual(['remove 1', 'remove 900']);
  await settle('filling', () => pool.ready === 1);
  expect(await pool.adopt(7)).toMatchObject({ index: 7, hostAddress: '10.11.0.7' });
  await expect(pool.adopt(7)).rejects.toMatchObject({ code: 'conflict' });
  await pool.release(builder.describe(7));
  expect(builder.built).toEqual(new Set([1]));
});

test('a slot adopted before reclaim stays adopted, and what is no slot takes no room', async () => {
  const { builder, pool } = setUp({ size: 0, maxSlots: 2 });
  builder.built.add(2);
  await pool.adopt(2);
  await pool.reclaim(new Set([0, 2]));
  await expect(pool.adopt(2)).rejects.toMatchObject({ code: 'conflict' });
  expect((await pool.acquire()).index).toBe(1);
  expect(builder.built).toEqual(new Set([1, 2]));
});

test('leaves a slot alone that somebody else has, and goes on with the next at once', async () => {
  const { builder, pool } = setUp({ size: 0, maxSlots: 2 });
  builder.built.add(1);
  expect((await pool.acquire()).index).toBe(2);
  await expect(pool.acquire()).rejects.toMatchObject({ code: 'no_capacity' });
  expect(builder.log).toEqual(['build 2']);
});

test('refuses to adopt a slot that the kernel does not have', async () => {
  const { pool } = setUp();
  await expect(pool.adopt(12)).rejects.toMatchObject({ code: 'not_found' });
});

test('disposal removes the free slots, leaves those in use, and fails those who wait', async () => {
  const { builder, pool } = setUp({ size: 2, maxSlots: 3 });
  await pool.reclaim(new Set());
  await settle('filling', () => pool.ready === 2);
  const slot = await pool.acquire();
  await settle('refilling', () => pool.ready === 2);
  const { promise, resolve: open } = Promise.withResolvers<void>();
  builder.gate = promise;
  await pool.acquire();
  await pool.acquire();
  const waiting = expect(pool.release(slot).then(() => pool.acquire())).rejects.toMatchObject({ code: 'cancelled' });
  await settle('the rebuild', () => builder.building === 1);
  const disposed = pool[Symbol.asyncDispose]();
  open();
  await waiting;
  await disposed;
  expect(builder.built).toEqual(new Set([2, 3]));
  await expect(pool.acquire()).rejects.toMatchObject({ code: 'cancelled' });
});

test.each([{ firstIndex: 0 }, { firstIndex: 32_767, maxSlots: 2 }, { size: 5, maxSlots: 4 }])(
  'refuses %j',
  (options) => {
    expect(() => setUp(options)).toThrow(expect.objectContaining({ code: 'invalid_request' }));
  },
);
