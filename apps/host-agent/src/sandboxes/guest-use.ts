import type { ActivityKind } from '../registry/sandbox-record.ts';
import type { Sandbox, SandboxRegistry } from '../registry/sandbox-registry.ts';

/** A transfer that moved nothing for so long keeps its sandbox awake no longer, though it may still go on. */
const stallMs = 30_000;

/**
 * Somebody's use of a running sandbox: activity, and a reason not to pause it. For as long as it moves and its client is there; a client that left,
 * or one that neither reads nor sends, must not keep a sandbox awake for ever.
 */
export class GuestUse implements Disposable {
  readonly #registry: SandboxRegistry;
  readonly #sandbox: Sandbox;
  readonly #kind: ActivityKind;
  readonly #ended = new AbortController();
  #movedAtMs: number;
  #isCounted = false;

  constructor(
    registry: SandboxRegistry,
    sandbox: Sandbox,
    { kind, signal }: { kind: ActivityKind; signal: AbortSignal },
  ) {
    this.#registry = registry;
    this.#sandbox = sandbox;
    this.#kind = kind;
    this.#movedAtMs = registry.clock.now();
    this.moved();
    if (signal.aborted) this[Symbol.dispose]();
    else signal.addEventListener('abort', () => this[Symbol.dispose](), { once: true, signal: this.#ended.signal });
  }

  /** Something came or went. */
  moved(): void {
    if (this.#ended.signal.aborted) return;
    this.#registry.touch(this.#sandbox, this.#kind);
    this.#movedAtMs = this.#registry.clock.now();
    if (this.#isCounted) return;
    this.#isCounted = true;
    this.#sandbox.openStreams++;
    this.#watch().catch(() => undefined); // ended: the clock's wait was aborted
  }

  [Symbol.dispose](): void {
    if (this.#ended.signal.aborted) return;
    this.#ended.abort();
    this.#release();
    this.#registry.touch(this.#sandbox, this.#kind);
  }

  /** Until the use stalls. */
  async #watch(): Promise<void> {
    const { clock } = this.#registry;
    for (let leftMs = stallMs; leftMs > 0; leftMs = this.#movedAtMs + stallMs - clock.now()) {
      await clock.sleep(leftMs, this.#ended.signal);
    }
    this.#release();
  }

  #release(): void {
    if (this.#isCounted) this.#sandbox.openStreams--;
    this.#isCounted = false;
  }
}
