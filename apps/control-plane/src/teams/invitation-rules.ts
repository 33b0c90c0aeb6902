import { networkOf } from '../http/network-of.ts';
import type { BucketRule } from '../http/token-buckets.ts';

/** Counts attempts before they are made; throws `rate_limited`. */
export interface Attempts {
  take(keys: Readonly<Record<string, BucketRule>>): void;
}

const hourMs = 3_600_000;

/** Mails in a team's name, whose words its members choose: from one person or place, and to one address, whoever sends them. */
export function invitationRules({
  userId,
  emailKey,
  ip,
}: {
  userId: string;
  emailKey: string;
  ip: string;
}): Record<string, BucketRule> {
  return {
    [`invitation ${userId}`]: { max: 100, windowMs: hourMs },
    [`invitation ip ${networkOf(ip)}`]: { max: 200, windowMs: hourMs },
    [`invitation email ${emailKey}`]: { max: 10, windowMs: 24 * hourMs },
  };
}
