import type { UserId } from '@aviary/core';
import type { Db } from '../context.ts';
import { insertOneTimeToken, type TokenPurpose } from './one-time-token-store.ts';

export type LinkPurpose = Exclude<TokenPurpose, 'claim'>;

/** What an account's links are for: how long one is good, and the page that it leads to. */
export const accountLinks = {
  email_verification: { ttlMs: 24 * 3_600_000, page: 'verify-email' },
  password_reset: { ttlMs: 1_800_000, page: 'reset-password' },
} as const satisfies Record<LinkPurpose, { ttlMs: number; page: string }>;

/** A token for a link of a user, and until when it is good; one of nobody is good for nothing. `isMailed` says that it goes to their address and to nobody else. */
export async function createLinkToken(
  db: Db,
  { userId, purpose, isMailed, now }: { userId: UserId | null; purpose: LinkPurpose; isMailed: boolean; now: Date },
): Promise<{ token: string; expiresAt: Date }> {
  const expiresAt = new Date(now.getTime() + accountLinks[purpose].ttlMs);
  const token = await insertOneTimeToken(db, { purpose, now, expiresAt, userId, isMailed });
  return { token, expiresAt };
}
