import type { PasskeyAssertion, PasskeyRequestOptions } from '@aviary/api-contract';
import { AppError, platformTeamId, type UserId } from '@aviary/core';
import { generateAuthenticationOptions } from '@simplewebauthn/server';
import type { AccountDeps } from '../accounts/account-deps.ts';
import { lockAccount } from '../accounts/account-store.ts';
import { passkeyRules } from '../accounts/attempt-limit.ts';
import { requireActive } from '../accounts/log-in.ts';
import type { Device, IssuedSession } from '../accounts/open-session.ts';
import { openSignedIn } from '../accounts/sign-in.ts';
import { recordAudit } from '../audit/audit-store.ts';
import { consumeChallenge, insertChallenge } from '../second-factors/challenge-store.ts';
import { challengeMs } from './add-passkey.ts';
import { checkAssertion, readChallenge } from './check-credential.ts';
import { passkeySite } from './passkey-site.ts';
import { findCredential, touchPasskey } from './passkey-store.ts';

const purpose = 'passkey_log_in';

/** What a browser asks its user's authenticators by, whoever that is. Throws `invalid_state` where there are no passkeys, `rate_limited`. */
export async function beginPasskeyLogIn(
  { database, clock, accounts }: AccountDeps,
  { ipAddress }: Device,
): Promise<PasskeyRequestOptions> {
  const { rpId } = passkeySite(accounts.settings.publicUrl);
  accounts.attempts.take(passkeyRules(ipAddress));
  const { challenge } = await generateAuthenticationOptions({ rpID: rpId });
  const now = new Date(clock.now());
  const expiresAt = new Date(now.getTime() + challengeMs);
  await insertChallenge(database.db, { secret: challenge, purpose, now, expiresAt });
  return { challenge, rpId, userVerification: 'required', timeout: challengeMs };
}

/** Opens a session for whose authenticator has signed the challenge. Throws `unauthorized` for what is not good, whatever it is. */
export async function logInWithPasskey(
  deps: AccountDeps,
  credential: PasskeyAssertion,
  device: Device,
): Promise<IssuedSession> {
  const now = new Date(deps.clock.now());
  const known = await checkSignature(deps, { credential, now });
  const { userId } = known;
  const result = await deps.database.transaction(async ({ db }) => {
    const account = await lockAccount(db, userId);
    requireActive(account);
    const stored = await findCredential(db, credential.id);
    // Removed meanwhile.
    if (stored?.user_id !== userId) return 'user.log_in_failed';
    if (isCopied(stored, known)) return 'user.passkey_copied';
    await touchPasskey(db, { id: stored.id, ...known, now });
    return openSignedIn(deps, db, { account, method: 'passkey', device, now });
  });
  return typeof result === 'string' ? refuse(deps, { userId, action: result }) : result;
}

/** An authenticator that counts its signatures never signs with a count that it had before: one of two is a copy. */
function isCopied(stored: { counter: number }, shown: { counter: number }): boolean {
  return (stored.counter > 0 || shown.counter > 0) && shown.counter <= stored.counter;
}

async function checkSignature(
  deps: AccountDeps,
  { credential, now }: { credential: PasskeyAssertion; now: Date },
): Promise<{ userId: UserId; counter: number; isSynced: boolean }> {
  const { database, accounts, logger } = deps;
  const site = passkeySite(accounts.settings.publicUrl);
  const challenge = readChallenge(credential);
  // Gone whatever comes of it.
  const asked = challenge && (await consumeChallenge(database.db, { secret: challenge, purpose, now }));
  if (!asked) {
    throw new AppError('unauthorized', 'the challenge is unknown, used or expired; begin to log in again', {
      details: { field: 'credential' },
    });
  }
  const stored = await findCredential(database.db, credential.id);
  const shown = stored && (await checkAssertion(credential, { site, challenge, publicKey: stored.public_key }));
  if (!stored || !shown || 'fault' in shown || !isHandleOf(credential, stored.user_id)) {
    if (shown && 'fault' in shown) logger.info({ err: shown.fault }, 'a passkey is refused');
    return refuse(deps, { userId: stored?.user_id ?? null, action: 'user.log_in_failed' });
  }
  return { userId: stored.user_id, ...shown };
}

/** An authenticator that says whose passkey it is must say this user's. */
function isHandleOf({ response: { userHandle } }: PasskeyAssertion, userId: UserId): boolean {
  return !userHandle || userHandle === Buffer.from(userId).toString('base64url');
}

async function refuse(
  { database }: Pick<AccountDeps, 'database'>,
  { userId, action }: { userId: UserId | null; action: 'user.log_in_failed' | 'user.passkey_copied' },
): Promise<never> {
  await recordAudit(database.db, {
    teamId: platformTeamId,
    actor: { type: 'system', id: null, name: 'log-in' },
    action,
    resourceId: userId,
    metadata: { method: 'passkey' },
  });
  throw new AppError('unauthorized', 'this passkey is not one of an account here; log in otherwise', {
    details: { field: 'credential' },
  });
}
