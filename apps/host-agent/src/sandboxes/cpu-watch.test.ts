import { expect, it } from 'vitest';
import { CpuWatch } from './cpu-watch.ts';

const reading = { sandboxId: 'a', run: '1', vcpus: 2, timeoutSec: 80 };

it('calls a microVM busy that uses more than a tenth of its CPUs in a window, as soon as it has', () => {
  const watch = new CpuWatch();
  const judge = (nowMs: number, usedMs: number) => watch.judge({ ...reading, nowMs, usedMs });
  // A window of 10 s, so 2 s of two CPUs.
  expect(judge(0, 90_000)).toBe('unknown');
  expect(judge(5_000, 91_000)).toBe('unknown');
  expect(judge(10_000, 91_900)).toBe('quiet');
  expect(judge(13_000, 94_000)).toBe('busy');
  expect(judge(14_000, 94_000)).toBe('quiet');
  expect(judge(23_000, 95_900)).toBe('quiet');
});

it('judges each run by itself, and another one anew', () => {
  const watch = new CpuWatch();
  watch.judge({ ...reading, nowMs: 0, usedMs: 0 });
  expect(watch.judge({ ...reading, run: '2', nowMs: 20_000, usedMs: 50_000 })).toBe('unknown');
  expect(watch.judge({ ...reading, run: '2', nowMs: 30_000, usedMs: 50_000 })).toBe('quiet');
  watch.keepOnly(new Set());
  expect(watch.judge({ ...reading, run: '2', nowMs: 40_000, usedMs: 90_000 })).toBe('unknown');
});
