import type { UserId } from '@aviary/core';
import type { Db } from '../context.ts';
import { newSecret, sha256Hex } from '../secrets.ts';

/** What a one-time token is good for. */
export type TokenPurpose = 'claim' | 'email_verification' | 'password_reset';

/** Of a token that was used: whose it was (null where nobody's, as for a claim), and whether it went to their address alone. */
export interface UsedToken {
  userId: UserId | null;
  isMailed: boolean;
}

/** Makes a token and returns it: the only time that it can be read. */
export async function insertOneTimeToken(
  db: Db,
  token: { purpose: TokenPurpose; now: Date; expiresAt: Date } & Partial<UsedToken>,
): Promise<string> {
  const secret = newSecret('');
  await db
    .insertInto('one_time_tokens')
    .values({
      token_hash: sha256Hex(secret),
      purpose: token.purpose,
      created_at: token.now,
      expires_at: token.expiresAt,
      user_id: token.userId ?? null,
      is_mailed: token.isMailed ?? false,
    })
    .execute();
  return secret;
}

/** Uses a token up: of many that try, one gets it. */
export async function consumeOneTimeToken(
  db: Db,
  { secret, purpose, now }: { secret: string; purpose: TokenPurpose; now: Date },
): Promise<UsedToken | undefined> {
  const row = await db
    .deleteFrom('one_time_tokens')
    .where('token_hash', '=', sha256Hex(secret))
    .where('purpose', '=', purpose)
    .where('expires_at', '>', now)
    .returning(['user_id', 'is_mailed'])
    .executeTakeFirst();
  return row && { userId: row.user_id, isMailed: row.is_mailed };
}

export async function isOneTimeTokenGood(
  db: Db,
  { secret, purpose, now }: { secret: string; purpose: TokenPurpose; now: Date },
): Promise<boolean> {
  const row = await db
    .selectFrom('one_time_tokens')
    .select('token_hash')
    .where('token_hash', '=', sha256Hex(secret))
    .where('purpose', '=', purpose)
    .where('expires_at', '>', now)
    .executeTakeFirst();
  return row !== undefined;
}

/** Ends all tokens for `purpose`, or those of one user. */
export async function deleteOneTimeTokens(db: Db, purpose: TokenPurpose, userId?: UserId): Promise<void> {
  let query = db.deleteFrom('one_time_tokens').where('purpose', '=', purpose);
  if (userId !== undefined) query = query.where('user_id', '=', userId);
  await query.execute();
}

export async function deleteExpiredTokens(db: Db, now: Date): Promise<void> {
  await db.deleteFrom('one_time_tokens').where('expires_at', '<', now).execute();
}
