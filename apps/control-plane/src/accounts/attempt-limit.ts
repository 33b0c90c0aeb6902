import { AppError } from '@aviary/core';
import type { Clock } from '@aviary/service-kit';
import { networkOf } from '../http/network-of.ts';
import { type BucketRule, TokenBuckets } from '../http/token-buckets.ts';

/** How many attempts one key has. */
export type AttemptRule = BucketRule;

/** Counts attempts in this process by key, in memory that is bounded. */
export class AttemptLimit {
  readonly #buckets: TokenBuckets;

  constructor({ clock }: { clock: Clock }) {
    this.#buckets = new TokenBuckets(clock);
  }

  /** Counts an attempt for every key, before it is made, so that parallel ones are no way around. Throws `rate_limited` when one has had its share. */
  take(keys: Readonly<Record<string, AttemptRule>>): void {
    const rules = Object.entries(keys);
    for (const [key, rule] of rules) {
      const retryAfterSec = this.#buckets.retryAfterSec(key, rule);
      if (retryAfterSec !== null)
        throw new AppError('rate_limited', 'too many attempts; wait before you try again', { retryAfterSec });
    }
    for (const [key, rule] of rules) this.#buckets.take(key, rule);
  }

  /** Forgets what was counted for `key`: its attempts came to a good end. */
  clear(key: string): void {
    this.#buckets.fill(key);
  }
}

const quarterHour = 15 * 60_000;

/** One address from one place has few attempts; from anywhere more, so that nobody is locked out by a stranger's. */
export function logInRules({ emailKey, ip }: { emailKey: string; ip: string }): Record<string, AttemptRule> {
  return {
    [pairKey({ emailKey, ip })]: { max: 10, windowMs: quarterHour },
    [`email ${emailKey}`]: { max: 100, windowMs: quarterHour },
    [`ip ${networkOf(ip)}`]: { max: 200, windowMs: quarterHour },
  };
}

export function pairKey({ emailKey, ip }: { emailKey: string; ip: string }): string {
  return `email ${emailKey} ip ${networkOf(ip)}`;
}

export function signUpRules(ip: string): Record<string, AttemptRule> {
  return { [`sign-up ip ${networkOf(ip)}`]: { max: 50, windowMs: 4 * quarterHour } };
}

/** Mails to one address, whoever asks for them, and from one place. */
export function resetRules({ emailKey, ip }: { emailKey: string; ip: string }): Record<string, AttemptRule> {
  return {
    [`reset ip ${networkOf(ip)}`]: { max: 20, windowMs: quarterHour },
    [`reset email ${emailKey}`]: { max: 5, windowMs: 4 * quarterHour },
  };
}

export function verificationRules(userId: string): Record<string, AttemptRule> {
  return { [`verification ${userId}`]: { max: 5, windowMs: 4 * quarterHour } };
}

/** Links that are opened from one place: their tokens cannot be guessed, but trying costs us. */
export function linkUseRules(ip: string): Record<string, AttemptRule> {
  return { [`link ip ${networkOf(ip)}`]: { max: 60, windowMs: quarterHour } };
}

/** Each attempt leaves a challenge in the store. */
export function passkeyRules(ip: string): Record<string, AttemptRule> {
  return { [`passkey ip ${networkOf(ip)}`]: { max: 200, windowMs: quarterHour } };
}
