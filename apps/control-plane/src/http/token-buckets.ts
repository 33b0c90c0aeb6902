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

/** So many at once, and as many again, evenly, in a window. */
export interface BucketRule {
  max: number;
  windowMs: number;
}

/** What sums of fractions may be off. */
const slackMs = 1e-3;

/**
 * One bucket of tokens per name, filled evenly as its rule says, which is the same whenever the name is used. Only so many are kept: the
 * one that nobody used for longest goes, and comes back full.
 */
export class TokenBuckets {
  readonly #clock: Pick<Clock, 'now'>;
  readonly #maxBuckets: number;
  /** When each will be full again, in the order of their last use. */
  readonly #fullAt = new Map<string, number>();

  constructor(clock: Pick<Clock, 'now'>, { maxBuckets = 50_000 }: { maxBuckets?: number } = {}) {
    this.#clock = clock;
    this.#maxBuckets = maxBuckets;
  }

  get size(): number {
    return this.#fullAt.size;
  }

  /** Takes one token, if there is one. */
  take(name: string, rule: BucketRule): Allowance {
    const now = this.#clock.now();
    const debtMs = this.#debtMs(name, { rule, now });
    const missingMs = missing(debtMs, rule);
    const isGiven = missingMs <= slackMs;
    const owedMs = isGiven ? debtMs + tokenMs(rule) : debtMs;
    this.#fullAt.delete(name);
    this.#fullAt.set(name, now + owedMs);
    this.#evict();
    return {
      limit: rule.max,
      remaining: Math.floor((rule.windowMs - owedMs + slackMs) / tokenMs(rule)),
      resetSec: seconds(owedMs),
      retryAfterSec: isGiven ? null : Math.max(1, seconds(missingMs)),
    };
  }

  /** Seconds until there is a token to take; null when there is one. */
  retryAfterSec(name: string, rule: BucketRule): number | null {
    const missingMs = missing(this.#debtMs(name, { rule, now: this.#clock.now() }), rule);
    return missingMs <= slackMs ? null : Math.max(1, seconds(missingMs));
  }

  /** Fills a bucket. */
  fill(name: string): void {
    this.#fullAt.delete(name);
  }

  /** How long it takes until the bucket is full; never more than a window, also when the clock was set back. */
  #debtMs(name: string, { rule, now }: { rule: BucketRule; now: number }): number {
    return Math.min(rule.windowMs, Math.max(0, (this.#fullAt.get(name) ?? now) - now));
  }

  #evict(): void {
    if (this.#fullAt.size <= this.#maxBuckets) return;
    const [oldest] = this.#fullAt.keys();
    if (oldest !== undefined) this.#fullAt.delete(oldest);
  }
}

/** How long it takes to fill in one token. */
const tokenMs = ({ max, windowMs }: BucketRule) => windowMs / max;
/** What a bucket that is so far from full lacks of one token. */
const missing = (debtMs: number, rule: BucketRule) => debtMs + tokenMs(rule) - rule.windowMs;
const seconds = (ms: number) => Math.ceil((ms - slackMs) / 1000);
