import { newId, type SandboxId } from '@aviary/core';
import { silentLogger } from '@aviary/service-kit';
import { VirtualClock } from '@aviary/service-kit/virtual-clock';
import { expect, it } from 'vitest';
import { records } from '../registry/record-fixture.ts';
import type { HostSandboxState, SandboxFacts } from '../registry/sandbox-record.ts';
import type { Sandbox } from '../registry/sandbox-registry.ts';
import { Reaper } from './reaper.ts';

const lookEveryMs = 2_000;

/** One running sandbox under a clock of its own, watched by a reaper until it is paused. */
function watched({ timeoutSec, cpuMsAt }: { timeoutSec: number; cpuMsAt: (nowMs: number) => number }) {
  const clock = new VirtualClock();
  const record: {
    state: HostSandboxState;
    lastActivity: SandboxFacts['lastActivity'];
    timeoutSec: number;
    lastActiveAtMs: number;
  } = {
    ...{ ...records.running, sandboxId: newId('sandbox') },
    ...{ timeoutSec, vcpus: 1, startedAtMs: 0, lastActiveAtMs: 0 },
  };
  const sandbox = { record, running: {}, openStreams: 0 } as unknown as Sandbox;
  const paused: SandboxId[] = [];
  let failures = 0;
  const registry = {
    clock,
    list: () => [sandbox],
    isLocked: () => false,
    touch: (_sandbox: Sandbox, kind: SandboxFacts['lastActivity']) =>
      Object.assign(record, { lastActiveAtMs: clock.now(), lastActivity: kind }),
  };
  const reaper = new Reaper({
    registry,
    logger: silentLogger,
    cpuUsedMs: async () => cpuMsAt(clock.now()),
    pause: async (id) => {
      if (failures-- > 0) throw new Error('not now');
      paused.push(id);
      record.state = 'paused';
    },
  });
  const pausedAt = async (limitMs: number) => {
    while (clock.now() < limitMs && paused.length === 0) {
      await clock.advance(lookEveryMs);
      await reaper.runOnce();
    }
    return paused.length > 0 ? clock.now() : undefined;
  };
  const failTimes = (times: number) => {
    failures = times;
  };
  return { clock, record, sandbox, registry, pausedAt, failTimes };
}

const idle = () => 0;

it('pauses after the idle time, whatever work came before it', async () => {
  // Busy for 100 s, used until then, and quiet ever since.
  const { clock, sandbox, registry, pausedAt } = watched({ timeoutSec: 20, cpuMsAt: (ms) => Math.min(ms, 100_000) });
  while (clock.now() < 100_000) {
    registry.touch(sandbox, 'exec');
    expect(await pausedAt(clock.now() + lookEveryMs)).toBeUndefined();
  }
  registry.touch(sandbox, 'exec');
  const at = await pausedAt(200_000);
  expect(at).toBeGreaterThanOrEqual(120_000);
  expect(at).toBeLessThanOrEqual(126_000);
});

it('counts work that nobody asked for, to its end', async () => {
  const { record, pausedAt } = watched({ timeoutSec: 20, cpuMsAt: (ms) => Math.min(ms / 2, 25_000) });
  expect(await pausedAt(60_000)).toBeUndefined();
  expect(record.lastActivity).toBe('cpu');
  const at = await pausedAt(200_000);
  expect(at).toBeGreaterThanOrEqual(70_000);
  expect(at).toBeLessThanOrEqual(76_000);
});

it('leaves what is used, and what is never to be paused, alone', async () => {
  const used = watched({ timeoutSec: 10, cpuMsAt: idle });
  used.sandbox.openStreams = 1;
  expect(await used.pausedAt(100_000)).toBeUndefined();
  used.sandbox.openStreams = 0;
  expect(await used.pausedAt(200_000)).toBe(102_000);
  const never = watched({ timeoutSec: 0, cpuMsAt: idle });
  expect(await never.pausedAt(100_000)).toBeUndefined();
});

it('tries a pause that failed again, not at once', async () => {
  const { pausedAt, failTimes } = watched({ timeoutSec: 10, cpuMsAt: idle });
  failTimes(1);
  expect(await pausedAt(100_000)).toBe(40_000);
});

it('looks at the others when it cannot tell about one', async () => {
  const sandboxes = Array.from({ length: 2 }, () => {
    const record = { ...records.running, sandboxId: newId('sandbox'), lastActiveAtMs: 0 };
    return { record, running: {}, openStreams: 0 } as unknown as Sandbox;
  });
  const clock = new VirtualClock();
  await clock.advance(1_000_000);
  const registry = { clock, list: () => sandboxes, isLocked: () => false, touch: () => undefined };
  const paused: SandboxId[] = [];
  const reaper = new Reaper({
    ...{ registry, logger: silentLogger, pause: async (id) => void paused.push(id) },
    cpuUsedMs: async (sandbox) => {
      if (sandbox === sandboxes[0]) throw new Error('too many open files');
      return undefined;
    },
  });
  await reaper.runOnce();
  expect(paused).toEqual([sandboxes[1]?.record.sandboxId]);
});

it('lets pauses under way end when it stops, and begins none after that', async () => {
  const running = Array.from({ length: 6 }, () => {
    const record = { ...records.running, sandboxId: newId('sandbox'), lastActiveAtMs: 0 };
    return { record, running: {}, openStreams: 0 } as unknown as Sandbox;
  });
  const clock = new VirtualClock();
  await clock.advance(1_000_000);
  const registry = { clock, list: () => running, isLocked: () => false, touch: () => undefined };
  const { promise: saved, resolve: save } = Promise.withResolvers<void>();
  const paused: SandboxId[] = [];
  const pause = async (id: SandboxId) => {
    paused.push(id);
    await saved;
  };
  const reaper = new Reaper({ registry, logger: silentLogger, cpuUsedMs: async () => undefined, pause });
  reaper.startRound();
  await expect.poll(() => paused.length).toBe(4);
  let isStopped = false;
  const stopped = reaper[Symbol.asyncDispose]().then(() => {
    isStopped = true;
  });
  expect(isStopped).toBe(false);
  save();
  await stopped;
  expect(paused).toHaveLength(4);
});
