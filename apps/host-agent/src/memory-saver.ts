import { trimMalloc } from '@aviary/linux';

/** Share of a look's time in which the event loop was busy: more is a burst, less is rest. */
const restfulShare = 0.05;

/**
 * Gives memory back once after each burst of work. V8 and malloc keep what a burst needed for the next one, which on a host at rest may be
 * hours away; making them sparing instead has V8 collect the whole heap in the middle of nearly every command. Collects only in a process
 * that was started with `--expose-gc`.
 */
export class MemorySaver {
  #before = performance.eventLoopUtilization();
  #isDue = false;

  /** Looks at what went on since the last look. */
  runOnce(): void {
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, this.#before);
    this.#before = now;
    if (utilization > restfulShare) {
      this.#isDue = true;
      return;
    }
    if (!this.#isDue) return;
    this.#isDue = false;
    globalThis.gc?.();
    trimMalloc();
  }
}
