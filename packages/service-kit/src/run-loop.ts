import { backoffMs } from './backoff.ts';
import { type Clock, systemClock } from './clock.ts';
import type { Logger } from './logger.ts';

export interface LoopOptions {
  name: string;
  intervalMs: number;
  logger: Logger;
  clock?: Clock;
  /** Longest wait after failures. Default 30 000. */
  maxBackoffMs?: number;
}

/** Calls `runOnce` every `intervalMs` until `signal` aborts. A failed step is logged and retried with growing delays. */
export async function runLoop(
  options: LoopOptions,
  runOnce: (signal: AbortSignal) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const { name, intervalMs, logger, clock = systemClock, maxBackoffMs = 30_000 } = options;
  let failures = 0;
  while (!signal.aborted) {
    try {
      await runOnce(signal);
      failures = 0;
    } catch (error) {
      if (signal.aborted) break;
      failures++;
      logger.warn({ loop: name, failures, err: error }, 'loop step failed');
    }
    const delayMs = failures === 0 ? intervalMs : Math.max(intervalMs, backoffMs(failures, { maxMs: maxBackoffMs }));
    await clock.sleep(delayMs, signal).catch(() => undefined);
  }
}
