import { AppError } from '@aviary/core';
import { type Clock, systemClock } from './clock.ts';

/** Runs `work` with a signal that aborts after `timeoutMs` (or with `parent`). Throws `deadline_exceeded` naming `what`. */
export async function withDeadline<T>(
  { what, timeoutMs, parent }: { what: string; timeoutMs: number; parent?: AbortSignal },
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const expired = new AppError('deadline_exceeded', `${what} did not finish within ${Math.round(timeoutMs)} ms`);
  const timer = setTimeout(() => controller.abort(expired), timeoutMs);
  const signal = parent ? AbortSignal.any([parent, controller.signal]) : controller.signal;
  let onAbort: () => void = () => undefined;
  const aborted = new Promise<never>((_resolve, reject) => {
    onAbort = () => reject(signal.reason);
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([work(signal), aborted]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
  }
}

export interface WaitOptions {
  what: string;
  timeoutMs: number;
  /** Pause between looks. Default 10. */
  intervalMs?: number;
  signal?: AbortSignal;
  clock?: Clock;
}

/** Asks `probe` until it answers something other than undefined or false. Throws `deadline_exceeded` naming `what`. */
export async function waitFor<T>(
  { what, timeoutMs, intervalMs = 10, signal, clock = systemClock }: WaitOptions,
  probe: () => Promise<T | undefined | false> | T | undefined | false,
): Promise<T> {
  const deadline = clock.now() + timeoutMs;
  for (;;) {
    signal?.throwIfAborted();
    const value = await probe();
    if (value !== undefined && value !== false) return value;
    if (clock.now() >= deadline)
      throw new AppError('deadline_exceeded', `${what} did not happen within ${timeoutMs} ms`);
    await clock.sleep(intervalMs, signal);
  }
}
