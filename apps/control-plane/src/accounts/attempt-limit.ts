import { AppError } from '@aviary/core';
import type { Clock } from '@aviary/service-kit';

export interface AttemptRule {
  /** How many attempts one key has in a window. */
  max: number;
  windowMs: number;
}

/** Keys that are remembered at most; those that began longest ago are forgotten first. */
const maxKeys = 20_000;

/** Counts attempts in this process by key, in memory that is bounded. */
export class AttemptLimit {
  readonly #clock: Clock;
  readonly #windows = new Map<string, { count: number; endsAt: number }>();

  constructor({ clock }: { clock: Clock }) {
    this.#clock = clock;
  }

  /** Counts an attempt for every key, before it is made, so that parallel ones are no way around. Throws `rate_limited` when one has had its share. */
  take(keys: Readonly<Record<string, AttemptRule>>): void {
    const now = this.#clock.now();
    for (const [key, rule] of Object.entries(keys)) {
      const window = this.#current(key, { rule, now });
      if (window.count < rule.max) continue;
      throw new AppError('rate_limited', 'too many attempts; wait before you try again', {
        retryAfterSec: Math.ceil((window.endsAt - now) / 1000),
      });
    }
    for (const [key, rule] of Object.entries(keys)) this.#current(key, { rule, now }).count++;
  }

  /** Forgets what was counted for `key`: its attempts came to a good end. */
  clear(key: string): void {
    this.#windows.delete(key);
  }

  #current(key: string, { rule, now }: { rule: AttemptRule; now: number }): { count: number; endsAt: number } {
    const known = this.#windows.get(key);
    if (known && known.endsAt > now) return known;
    this.#windows.delete(key);
    if (this.#windows.size >= maxKeys)
      for (const first of this.#windows.keys()) {
        this.#windows.delete(first);
        break;
      }
    const fresh = { count: 0, endsAt: now + rule.windowMs };
    this.#windows.set(key, fresh);
    return fresh;
  }
}

const quarterHour = 15 * 60_000;

/** One address from one place has few attempts; from anywhere more, so that nobody is locked out by a stranger's. */
export function logInRules({ emailKey, ip }: { emailKey: string; ip: string }): Record<string, AttemptRule> {
  return {
    [pairKey({ emailKey, ip })]: { max: 10, windowMs: quarterHour },
    [`email ${emailKey}`]: { max: 100, windowMs: quarterHour },
    [`ip ${ip}`]: { max: 200, windowMs: quarterHour },
  };
}

export function pairKey({ emailKey, ip }: { emailKey: string; ip: string }): string {
  return `email ${emailKey} ip ${ip}`;
}

export function signUpRules(ip: string): Record<string, AttemptRule> {
  return { [`sign-up ip ${ip}`]: { max: 50, windowMs: 4 * quarterHour } };
}

/** Mails to one address, whoever asks for them, and from one place. */
export function resetRules({ emailKey, ip }: { emailKey: string; ip: string }): Record<string, AttemptRule> {
  return {
    [`reset ip ${ip}`]: { max: 20, windowMs: quarterHour },
    [`reset email ${emailKey}`]: { max: 5, windowMs: 4 * quarterHour },
  };
}

export function verificationRules(userId: string): Record<string, AttemptRule> {
  return { [`verification ${userId}`]: { max: 5, windowMs: 4 * quarterHour } };
}

/** Links that are opened from one place: their tokens cannot be guessed, but trying costs us. */
export function linkUseRules(ip: string): Record<string, AttemptRule> {
  return { [`link ip ${ip}`]: { max: 60, windowMs: quarterHour } };
}

/** Each attempt leaves a challenge in the store. */
export function passkeyRules(ip: string): Record<string, AttemptRule> {
  return { [`passkey ip ${ip}`]: { max: 200, windowMs: quarterHour } };
}
