import { AppError } from '@aviary/core';
import type { Clock } from '@aviary/service-kit';
import type { AccessSubject } from './access-change-store.ts';
import { networkOf } from './network-of.ts';
import { type Allowance, TokenBuckets } from './token-buckets.ts';

/** Requests per minute that each of a kind may send at once and in the long run; 0 is without limit. Each replica counts by itself. */
export interface RateLimitOptions {
  /** Of one API key. */
  perKey: number;
  /** Of one person, whatever team they act for. */
  perUser: number;
  /** Of all keys and members of one team together. */
  perTeam: number;
  /** Of one address on routes that ask nobody who they are, and as many refused credentials, and as many pages. */
  perAddress: number;
}

export const defaultRateLimits: RateLimitOptions = { perKey: 12_000, perUser: 6_000, perTeam: 60_000, perAddress: 120 };

type Kind = AccessSubject['type'] | 'address' | 'refused' | 'page';

const minuteMs = 60_000;

const whose = { api_key: 'with this key', user: 'with this user', team: 'of your team' } as const satisfies Record<
  AccessSubject['type'],
  string
>;

/** Counts requests by who sends them. Throws `rate_limited` for one too many, and says in either case what is left. */
export class RateLimits {
  readonly #buckets: Readonly<Record<Kind, TokenBuckets>>;
  readonly #perMinute: Readonly<Record<Kind, number>>;

  constructor(clock: Pick<Clock, 'now'>, { perKey, perUser, perTeam, perAddress }: RateLimitOptions) {
    const bucket = () => new TokenBuckets(clock);
    this.#buckets = {
      api_key: bucket(),
      user: bucket(),
      team: bucket(),
      address: bucket(),
      refused: bucket(),
      page: bucket(),
    };
    this.#perMinute = {
      api_key: perKey,
      user: perUser,
      team: perTeam,
      address: perAddress,
      refused: perAddress,
      page: perAddress,
    };
  }

  /** Counts a request on a route that asks nobody who they are. */
  takeAddress(ip: string): Allowance | undefined {
    return this.#take('address', networkOf(ip), 'from your address');
  }

  /** Counts a request for what no route of the API is: a page, or nothing. It takes nothing from those who log in. */
  takePage(ip: string): Allowance | undefined {
    return this.#take('page', networkOf(ip), 'from your address');
  }

  /** Counts a credential that was not good. Others of the same address, which a whole office may have, go on. */
  takeRefusal(ip: string): void {
    this.#take('refused', networkOf(ip), 'with credentials that are not valid');
  }

  /** Counts a request of somebody known by each of `subjects`, and tells of the one that has the least left. */
  take(subjects: readonly AccessSubject[]): Allowance | undefined {
    const allowances = subjects.flatMap(({ type, id }) => this.#take(type, id, whose[type]) ?? []);
    return allowances.sort((a, b) => a.remaining / a.limit - b.remaining / b.limit)[0];
  }

  #take(kind: Kind, name: string, whose: string): Allowance | undefined {
    const max = this.#perMinute[kind];
    if (max === 0) return undefined;
    const allowance = this.#buckets[kind].take(name, { max, windowMs: minuteMs });
    if (allowance.retryAfterSec !== null) throw new RateLimited(allowance, allowance.retryAfterSec, whose);
    return allowance;
  }
}

/** The headers that say what is left (draft-ietf-httpapi-ratelimit-headers, in its form of three fields). */
export function rateLimitHeaders({ limit, remaining, resetSec }: Allowance): Record<string, string> {
  return {
    'ratelimit-limit': String(limit),
    'ratelimit-remaining': String(remaining),
    'ratelimit-reset': String(resetSec),
  };
}

/** One that was refused, with what its headers say. */
export class RateLimited extends AppError {
  readonly allowance: Allowance;

  constructor(allowance: Allowance, retryAfterSec: number, whose: string) {
    const message = `too many requests ${whose}: ask again in ${retryAfterSec} s`;
    super('rate_limited', message, { details: { limit_per_minute: allowance.limit }, retryAfterSec });
    this.allowance = allowance;
  }
}
