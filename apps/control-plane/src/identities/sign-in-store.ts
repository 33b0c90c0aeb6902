import type { SessionId, UserId } from '@aviary/core';
import type { Db } from '../context.ts';
import { newSecret, sha256Hex } from '../secrets.ts';

/** A sign-in whose browser is on its way. */
export interface Attempt {
  provider: string;
  nonce: string;
  codeVerifier: string;
  /** Where the browser goes in the end. */
  returnTo: string;
  /** Of the program that has opened the browser. */
  codeChallenge: string | null;
  /** Of the person who links; null for a log-in. */
  sessionId: SessionId | null;
}

/** `browser` is what its cookie holds. */
export async function insertAttempt(
  db: Db,
  attempt: Attempt & { state: string; browser: string; now: Date; expiresAt: Date },
): Promise<void> {
  await db
    .insertInto('sign_in_attempts')
    .values({
      state_hash: sha256Hex(attempt.state),
      browser_hash: sha256Hex(attempt.browser),
      provider: attempt.provider,
      nonce: attempt.nonce,
      code_verifier: attempt.codeVerifier,
      return_to: attempt.returnTo,
      code_challenge: attempt.codeChallenge,
      session_id: attempt.sessionId,
      created_at: attempt.now,
      expires_at: attempt.expiresAt,
    })
    .execute();
}

/** Uses an attempt up: of many that come back with it, one gets it, and of other browsers or from other providers none. */
export async function consumeAttempt(
  db: Db,
  asked: { state: string; browser: string; provider: string; now: Date },
): Promise<Attempt | undefined> {
  const row = await db
    .deleteFrom('sign_in_attempts')
    .where('state_hash', '=', sha256Hex(asked.state))
    .where('browser_hash', '=', sha256Hex(asked.browser))
    .where('provider', '=', asked.provider)
    .where('expires_at', '>', asked.now)
    .returning(['provider', 'nonce', 'code_verifier', 'return_to', 'code_challenge', 'session_id'])
    .executeTakeFirst();
  return (
    row && {
      provider: row.provider,
      nonce: row.nonce,
      codeVerifier: row.code_verifier,
      returnTo: row.return_to,
      codeChallenge: row.code_challenge,
      sessionId: row.session_id,
    }
  );
}

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

export async function deleteExpiredSignIns(db: Db, now: Date): Promise<void> {
  await db.deleteFrom('sign_in_attempts').where('expires_at', '<', now).execute();
  await db.deleteFrom('sign_in_codes').where('expires_at', '<', now).execute();
}
