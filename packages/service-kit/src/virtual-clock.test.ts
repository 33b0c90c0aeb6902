import { expect, it } from 'vitest';
import { VirtualClock } from './virtual-clock.ts';

it('wakes sleepers in order, each at its time, and what they start sleeps from there', async () => {
  const clock = new VirtualClock(1_000);
  const log: string[] = [];
  const sleeper = async (name: string, ...naps: number[]) => {
    for (const ms of naps) {
      await clock.sleep(ms);
      log.push(`${name}@${clock.now()}`);
    }
  };
  void sleeper('b', 20, 5);
  void sleeper('a', 10, 100);
  await clock.advance(30);
  expect(log).toEqual(['a@1010', 'b@1020', 'b@1025']);
  expect({ now: clock.now(), sleeping: clock.sleeping }).toEqual({ now: 1_030, sleeping: 1 });
});

it('lets go of a sleeper that is called off', async () => {
  const clock = new VirtualClock();
  const controller = new AbortController();
  const slept = clock.sleep(10, controller.signal);
  controller.abort('enough');
  await expect(slept).rejects.toBe('enough');
  await expect(clock.sleep(10, controller.signal)).rejects.toBe('enough');
  expect(clock.sleeping).toBe(0);
});
