import { afterEach, expect, test, vi } from 'vitest';
import { MemorySaver } from './memory-saver.ts';

afterEach(() => vi.unstubAllGlobals());

function spin(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

test('collects once after a burst, when the process has come to rest', async () => {
  const collect = vi.fn();
  vi.stubGlobal('gc', collect);
  const saver = new MemorySaver();
  spin(50);
  saver.runOnce();
  expect(collect, 'not in the burst').not.toHaveBeenCalled();
  const look = () => {
    saver.runOnce();
    return collect.mock.calls.length;
  };
  await expect.poll(look, { interval: 100, timeout: 10_000 }).toBe(1);
  // Rest that goes on is no reason: only a further burst is.
  spin(50);
  saver.runOnce();
  await expect.poll(look, { interval: 100, timeout: 10_000 }).toBe(2);
});
