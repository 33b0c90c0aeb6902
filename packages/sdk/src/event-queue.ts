import { parseFrame } from './exec-frames.ts';
import type { ExecEvent } from './resources.ts';
import type { StdinTaken } from './stdin-sender.ts';

/** Events that have come and were not read yet. The server is told what was read, and sends no more than `window` frames ahead of that. */
export class EventQueue {
  readonly #events: ExecEvent[] = [];
  readonly #window: number;
  readonly #onTaken: (frames: number) => void;
  #takenFrames = 0;
  #toldFrames = 0;
  #failure: { reason: unknown } | undefined;
  #wake: () => void = () => undefined;

  constructor(window: number, onTaken: (frames: number) => void) {
    this.#window = window;
    this.#onTaken = onTaken;
  }

  /** Takes a frame as it came; what it says of standard input goes to `onInput`. */
  take(data: unknown, onInput: (taken: StdinTaken) => void): void {
    try {
      const event = parseFrame(data);
      if (event.type === 'stdin') onInput(event);
      else if (event.type !== 'pong') this.#events.push(event);
    } catch (error) {
      this.fail(error);
    }
    this.#wake();
  }

  /** The next event; throws the failure once everything before it was read. */
  async next(): Promise<ExecEvent> {
    for (;;) {
      const event = this.#events.shift();
      if (event) {
        if (event.type === 'stdout' || event.type === 'stderr') this.#count();
        return event;
      }
      if (this.#failure) throw this.#failure.reason;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  fail(reason: unknown): void {
    this.#failure ??= { reason };
    this.#wake();
  }

  #count(): void {
    this.#takenFrames++;
    if (this.#takenFrames - this.#toldFrames < this.#window / 2) return;
    this.#toldFrames = this.#takenFrames;
    this.#onTaken(this.#takenFrames);
  }
}
