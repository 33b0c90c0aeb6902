import { describe, expect, it } from 'vitest';
import { silentLogger } from './logger.ts';
import { runLoop } from './run-loop.ts';
import { VirtualClock } from './virtual-clock.ts';

function start(step: (pass: number) => void | Promise<void>) {
  const clock = new VirtualClock();
  const controller = new AbortController();
  const passes: number[] = [];
  const ended = runLoop(
    { name: 'test', intervalMs: 100, clock, logger: silentLogger, maxBackoffMs: 1_000 },
    async () => {
      passes.push(clock.now());
      await step(passes.length);
    },
    controller.signal,
  );
  return { clock, controller, passes, ended };
}

describe('runLoop', () => {
  it('steps at once and then each interval, until it is told to end', async () => {
    const { clock, controller, passes, ended } = start(() => undefined);
    await clock.advance(350);
    expect(passes).toEqual([0, 100, 200, 300]);
    controller.abort();
    await ended;
    await clock.advance(1_000);
    expect(passes).toHaveLength(4);
    expect(clock.sleeping).toBe(0);
  });

  it('goes on after failures, later and later up to a bound, and at its pace again after a success', async () => {
    const { clock, controller, passes, ended } = start((pass) => {
      if (pass <= 8) throw new Error('not yet');
    });
    await clock.advance(20_000);
    const gaps = passes.slice(1).map((at, index) => at - (passes[index] ?? 0));
    expect(gaps.slice(0, 8).every((gap) => gap >= 100 && gap <= 1_000)).toBe(true);
    expect(gaps[6]).toBeGreaterThanOrEqual(500);
    expect(gaps.slice(8, 12)).toEqual([100, 100, 100, 100]);
    controller.abort();
    await ended;
  });

  it('waits for a step under way before it ends', async () => {
    const gate = Promise.withResolvers<void>();
    const { clock, controller, ended } = start(() => gate.promise);
    await clock.advance(10);
    controller.abort();
    let hasEnded = false;
    void ended.then(() => {
      hasEnded = true;
    });
    await clock.advance(10);
    expect(hasEnded).toBe(false);
    gate.resolve();
    await ended;
  });
});
