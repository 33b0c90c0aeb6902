import type { UserId } from '@aviary/core';
import type { Db } from '../context.ts';
import { newSecret, sha256Hex } from '../secrets.ts';

/** What a one-time token is good for. */
export type TokenPurpose = 'claim' | 'email_verify' | 'password_reset';

/** Makes a token and returns it: the only time that it can be read. */
export async function insertOneTimeToken(
  db: Db,
  token: { purpose: TokenPurpose; userId: UserId | null; payload?: object; now: Date; expiresAt: Date },
): Promise<string> {
  const secret = newSecret('');
  await db
    .insertInto('one_time_tokens')
    .values({
      token_hash: sha256Hex(secret),
      purpose: token.purpose,
      user_id: token.userId,
      payload: JSON.stringify(token.payload ?? {}),
      created_at: token.now,
      expires_at: token.expiresAt,
    })
    .execute();
  return secret;
}

/** Uses a token up: of many that try, one gets it. */
export async function consumeOneTimeToken(
  db: Db,
  { secret, purpose, now }: { secret: string; purpose: TokenPurpose; now: Date },
): Promise<{ userId: UserId | null; payload: object } | undefined> {
  const row = await db
    .deleteFrom('one_time_tokens')
    .where('token_hash', '=', sha256Hex(secret))
    .where('purpose', '=', purpose)
    .where('expires_at', '>', now)
    .returning(['user_id', 'payload'])
    .executeTakeFirst();
  return row && { userId: row.user_id, payload: row.payload };
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
export async function deleteOneTimeTokens(
  db: Db,
  { purpose, userId }: { purpose: TokenPurpose; userId?: UserId },
): Promise<void> {
  let query = db.deleteFrom('one_time_tokens').where('purpose', '=', purpose);
  if (userId) query = query.where('user_id', '=', userId);
  await query.execute();
}
