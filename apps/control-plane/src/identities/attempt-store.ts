import type { SessionId } from '@aviary/core';
import type { Db } from '../context.ts';
import { sha256Hex } from '../secrets.ts';

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

export async function deleteExpiredAttempts(db: Db, now: Date): Promise<void> {
  await db.deleteFrom('sign_in_attempts').where('expires_at', '<', now).execute();
}
