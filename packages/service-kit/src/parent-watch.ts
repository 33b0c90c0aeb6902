import type { Readable } from 'node:stream';

export interface ParentWatchOptions {
  /** AVIARY_EXIT_WITH_PARENT: set by a supervisor that gives the process a pipe as its standard input. */
  isEnabled: boolean;
  stdin?: Readable;
}

/**
 * Aborts when the process that started this one is gone: the kernel then closes the pipe that is this process's
 * standard input, however the parent ended. Never aborts when not enabled. Does not keep the process alive.
 */
export function watchParent({ isEnabled, stdin = process.stdin }: ParentWatchOptions): AbortSignal {
  const controller = new AbortController();
  if (!isEnabled) return controller.signal;
  const onGone = () => controller.abort(new Error('the supervising process ended'));
  stdin.once('end', onGone).once('close', onGone).once('error', onGone);
  stdin.resume();
  if ('unref' in stdin && typeof stdin.unref === 'function') stdin.unref();
  return controller.signal;
}
