import { checkedCall, libcFunction } from './libc.ts';

const clockRealtime = 0;

/** Sets the wall clock to `unixMs`. Needs CAP_SYS_TIME. */
export function setWallClock(unixMs: number): void {
  if (!Number.isSafeInteger(unixMs) || unixMs < 0)
    throw new RangeError(`a wall clock time is whole milliseconds since 1970, not ${unixMs}`);
  const timespec = Buffer.alloc(16);
  timespec.writeBigInt64LE(BigInt(Math.floor(unixMs / 1_000)), 0);
  timespec.writeBigInt64LE(BigInt(unixMs % 1_000) * 1_000_000n, 8);
  const clockSettime = libcFunction('int clock_settime(int, void*)');
  checkedCall('clock_settime', () => clockSettime(clockRealtime, timespec));
}
