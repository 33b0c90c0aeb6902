/**
 * Frames of output on their way to a client, no more than it asked for: its WebSocket may have no other way to slow us down. Without a size
 * there is no limit but the connection's.
 */
export class OutputWindow {
  readonly #size: number;
  readonly #signal: AbortSignal;
  #sentFrames = 0;
  #takenFrames = 0;
  #wake: () => void = () => undefined;

  constructor(size: number | undefined, signal: AbortSignal) {
    this.#size = size ?? Number.POSITIVE_INFINITY;
    this.#signal = signal;
    signal.addEventListener('abort', () => this.#wake(), { once: true });
  }

  /** Resolves when there is room for one more frame, which is then on its way; also when the signal aborts. */
  async enter(): Promise<void> {
    while (this.#sentFrames - this.#takenFrames >= this.#size && !this.#signal.aborted) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    this.#sentFrames++;
  }

  /** The client has taken so many of all frames. */
  onTaken(frames: number): void {
    this.#takenFrames = Math.max(this.#takenFrames, Math.min(frames, this.#sentFrames));
    this.#wake();
  }
}
