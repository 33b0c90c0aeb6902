import type { Clock } from '@aviary/service-kit';
import { expect, it } from 'vitest';
import type { SandboxRecord } from '../registry/sandbox-record.ts';
import type { Sandbox, SandboxRegistry } from '../registry/sandbox-registry.ts';
import { GuestUse } from './guest-use.ts';

/** A clock whose time moves when it is told to. */
class HeldClock implements Clock {
  #now = 1_000;
  #sleepers: { untilMs: number; wake: () => void }[] = [];

  now(): number {
    return this.#now;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#sleepers.push({ untilMs: this.#now + ms, wake: resolve });
      signal?.addEventListener('abort', () => reject(signal.reason));
    });
  }

  async advance(ms: number): Promise<void> {
    this.#now += ms;
    const due = this.#sleepers.filter(({ untilMs }) => untilMs <= this.#now);
    this.#sleepers = this.#sleepers.filter((sleeper) => !due.includes(sleeper));
    for (const { wake } of due) wake();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function begin() {
  const clock = new HeldClock();
  const sandbox = { record: {} as SandboxRecord, openStreams: 0 } as Sandbox;
  const touched: number[] = [];
  const registry = { clock, touch: () => touched.push(clock.now()) } as unknown as SandboxRegistry;
  const client = new AbortController();
  const use = new GuestUse(registry, sandbox, { kind: 'files', signal: client.signal });
  return { clock, sandbox, touched, client, use };
}

it('keeps a sandbox awake until it ends', () => {
  const { sandbox, use } = begin();
  expect(sandbox.openStreams).toBe(1);
  use[Symbol.dispose]();
  use[Symbol.dispose]();
  use.moved();
  expect(sandbox.openStreams).toBe(0);
});

it('ends with its client, whatever the work does', () => {
  const { sandbox, client, use } = begin();
  client.abort();
  expect(sandbox.openStreams).toBe(0);
  use[Symbol.dispose]();
  expect(sandbox.openStreams).toBe(0);
});

it('counts no longer once nothing moves, and again when something does', async () => {
  const { clock, sandbox, touched, use } = begin();
  await clock.advance(20_000);
  use.moved();
  await clock.advance(20_000);
  expect(sandbox.openStreams).toBe(1);
  await clock.advance(10_000);
  expect([sandbox.openStreams, touched.at(-1)]).toEqual([0, 21_000]);
  use.moved();
  expect(sandbox.openStreams).toBe(1);
  use[Symbol.dispose]();
  await clock.advance(60_000);
  expect(sandbox.openStreams).toBe(0);
});
