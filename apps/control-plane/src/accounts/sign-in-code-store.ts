import type { UserId } from '@aviary/core';
import type { Db } from '../context.ts';
import { newSecret, sha256Hex } from '../secrets.ts';

/** Who may take the session that a code is for: the browser with this cookie, or the program that knows what this is the hash of. */
export type CodeHolder = { browser: string } | { codeChallenge: string };

/** Makes a code for a session of the user and returns it: the only time that it can be read. */
export async function insertSignInCode(
  db: Db,
  code: { userId: UserId; provider: string; holder: CodeHolder; now: Date; expiresAt: Date },
): Promise<string> {
  const secret = newSecret('avyx_');
  await db
    .insertInto('sign_in_codes')
    .values({
      code_hash: sha256Hex(secret),
      user_id: code.userId,
      provider: code.provider,
      browser_hash: 'browser' in code.holder ? sha256Hex(code.holder.browser) : null,
      code_challenge: 'browser' in code.holder ? null : code.holder.codeChallenge,
      created_at: code.now,
      expires_at: code.expiresAt,
    })
    .execute();
  return secret;
}

/** Uses a code up: of many that try, one gets its user, and of those whom it is not for none. */
export async function consumeSignInCode(
  db: Db,
  { code, holder, now }: { code: string; holder: CodeHolder; now: Date },
): Promise<{ user_id: UserId; provider: string } | undefined> {
  const query = db
    .deleteFrom('sign_in_codes')
    .where('code_hash', '=', sha256Hex(code))
    .where('expires_at', '>', now)
    .returning(['user_id', 'provider']);
  return await ('browser' in holder
    ? query.where('browser_hash', '=', sha256Hex(holder.browser))
    : query.where('code_challenge', '=', holder.codeChallenge)
  ).executeTakeFirst();
}

/** Ends what a user has shown and not taken a session for. */
export async function deleteSignInCodes(db: Db, userId: UserId): Promise<void> {
  await db.deleteFrom('sign_in_codes').where('user_id', '=', userId).execute();
}

export async function deleteExpiredSignInCodes(db: Db, now: Date): Promise<void> {
  await db.deleteFrom('sign_in_codes').where('expires_at', '<', now).execute();
}
