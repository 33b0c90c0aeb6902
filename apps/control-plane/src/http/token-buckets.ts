import type { Clock } from '@aviary/service-kit';

/** What a caller has left. */
export interface Allowance {
  limit: number;
  remaining: number;
  /** Until all of it is there again. */
  resetSec: number;
  /** Null when there was one left to take; else until there is one. */
  retryAfterSec: number | null;
}

const minuteMs = 60_000;
/** What sums of fractions may be off. */
const slackMs = 1e-3;

/**
 * One bucket of tokens per name, filled evenly: `perMinute` at once, and as many in a minute. Only so many are kept: the one that nobody
 * used for longest goes, and comes back full.
 */
export class TokenBuckets {
  readonly #clock: Pick<Clock, 'now'>;
  readonly #perMinute: number;
  readonly #maxBuckets: number;
  /** When each will be full again, in the order of their last use. */
  readonly #fullAt = new Map<string, number>();

  constructor(
    clock: Pick<Clock, 'now'>,
    { perMinute, maxBuckets = 50_000 }: { perMinute: number; maxBuckets?: number },
  ) {
    this.#clock = clock;
    this.#perMinute = perMinute;
    this.#maxBuckets = maxBuckets;
  }

  get size(): number {
    return this.#fullAt.size;
  }

  /** Takes one token, if there is one. */
  take(name: string): Allowance {
    const now = this.#clock.now();
    const debtMs = this.#debtMs(name, now);
    const missingMs = debtMs + this.#tokenMs - minuteMs;
    const isGiven = missingMs <= slackMs;
    const owedMs = isGiven ? debtMs + this.#tokenMs : debtMs;
    this.#fullAt.delete(name);
    this.#fullAt.set(name, now + owedMs);
    this.#evict();
    return {
      limit: this.#perMinute,
      remaining: Math.floor((minuteMs - owedMs + slackMs) / this.#tokenMs),
      resetSec: seconds(owedMs),
      retryAfterSec: isGiven ? null : Math.max(1, seconds(missingMs)),
    };
  }

  /** How much of a minute it takes until the bucket is full; never more than a minute, also when the clock was set back. */
  #debtMs(name: string, now: number): number {
    return Math.min(minuteMs, Math.max(0, (this.#fullAt.get(name) ?? now) - now));
  }

  get #tokenMs(): number {
    return minuteMs / this.#perMinute;
  }

  #evict(): void {
    if (this.#fullAt.size <= this.#maxBuckets) return;
    const [oldest] = this.#fullAt.keys();
    if (oldest !== undefined) this.#fullAt.delete(oldest);
  }
}

const seconds = (ms: number) => Math.ceil((ms - slackMs) / 1000);
