import { trimMalloc } from '@aviary/linux';

/** Share of a look's time in which the event loop was busy: more is a burst, less is rest. */
const restfulShare = 0.05;

/** Milliseconds that the event loop has worked and waited so far. */
export type LoopTimes = () => { active: number; idle: number };

/** Collects only in a process that was started with `--expose-gc`. */
function collectAndTrim(): void {
  globalThis.gc?.();
  trimMalloc();
}

/**
 * Gives memory back once after each burst of work. V8 and malloc keep what a burst needed for the next one, which on a host at rest may be
 * hours away; making them sparing instead has V8 collect the whole heap in the middle of nearly every command.
 */
export class MemorySaver {
  readonly #loopTimes: LoopTimes;
  readonly #giveBack: () => void;
  #before: ReturnType<LoopTimes>;
  #isDue = false;

  constructor(loopTimes: LoopTimes = performance.eventLoopUtilization, giveBack = collectAndTrim) {
    this.#loopTimes = loopTimes;
    this.#giveBack = giveBack;
    this.#before = loopTimes();
  }

  /** Looks at what went on since the last look. */
  runOnce(): void {
    const now = this.#loopTimes();
    const active = now.active - this.#before.active;
    const idle = now.idle - this.#before.idle;
    this.#before = now;
    if (active > restfulShare * (active + idle)) {
      this.#isDue = true;
      return;
    }
    if (!this.#isDue) return;
    this.#isDue = false;
    this.#giveBack();
    // Not a burst of its own, however long it took.
    this.#before = this.#loopTimes();
  }
}
