import type { Db } from '../context.ts';
import { newSecret, sha256Hex } from '../secrets.ts';

/** What a one-time token is good for. */
export type TokenPurpose = 'claim';

/** Makes a token and returns it: the only time that it can be read. */
export async function insertOneTimeToken(
  db: Db,
  token: { purpose: TokenPurpose; now: Date; expiresAt: Date },
): Promise<string> {
  const secret = newSecret('');
  await db
    .insertInto('one_time_tokens')
    .values({
      token_hash: sha256Hex(secret),
      purpose: token.purpose,
      created_at: token.now,
      expires_at: token.expiresAt,
    })
    .execute();
  return secret;
}

/** Uses a token up: of many that try, one gets true. */
export async function consumeOneTimeToken(
  db: Db,
  { secret, purpose, now }: { secret: string; purpose: TokenPurpose; now: Date },
): Promise<boolean> {
  const row = await db
    .deleteFrom('one_time_tokens')
    .where('token_hash', '=', sha256Hex(secret))
    .where('purpose', '=', purpose)
    .where('expires_at', '>', now)
    .returning('token_hash')
    .executeTakeFirst();
  return row !== undefined;
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

/** Ends all tokens for `purpose`. */
export async function deleteOneTimeTokens(db: Db, purpose: TokenPurpose): Promise<void> {
  await db.deleteFrom('one_time_tokens').where('purpose', '=', purpose).execute();
}

export async function deleteExpiredTokens(db: Db, now: Date): Promise<void> {
  await db.deleteFrom('one_time_tokens').where('expires_at', '<', now).execute();
}
