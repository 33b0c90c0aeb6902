import { AviaryError } from './aviary-error.ts';

/**
 * Finds out that a connection never came about or is lost: a half-open one (sleeping laptop, dropped NAT entry) gives no error by itself.
 * A platform's WebSocket sends no pings, so they are frames.
 */
export class ConnectionWatch {
  readonly #send: (frame: { type: 'ping' }) => void;
  readonly #onLost: (error: AviaryError) => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #unanswered = 0;

  constructor(send: (frame: { type: 'ping' }) => void, onLost: (error: AviaryError) => void) {
    this.#send = send;
    this.#onLost = onLost;
  }

  /** The connection must be open within this time. */
  expectOpen(timeoutMs: number): void {
    this.#timer = setTimeout(
      () => this.#onLost(new AviaryError('timeout', `the API opened no WebSocket within ${timeoutMs} ms`)),
      timeoutMs,
    );
  }

  /** It is open: from now on it must answer, also while it waits for output. */
  keepAlive(intervalMs: number): void {
    clearTimeout(this.#timer);
    this.#timer = setInterval(() => {
      if (++this.#unanswered > 2)
        this.#onLost(new AviaryError('unreachable', 'the connection to the sandbox went silent'));
      else this.#send({ type: 'ping' });
    }, intervalMs);
    // A browser's timers are numbers, and hold nothing up.
    if (typeof this.#timer === 'object') this.#timer.unref();
  }

  /** Something came: the other side is there. */
  onSign(): void {
    this.#unanswered = 0;
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}
