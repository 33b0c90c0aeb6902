import type { AddPasskey, PasskeyCreationOptions } from '@aviary/api-contract';
import { AppError, platformTeamId } from '@aviary/core';
import { generateRegistrationOptions } from '@simplewebauthn/server';
import type { AccountDeps } from '../accounts/account-deps.ts';
import { lockAccount } from '../accounts/account-store.ts';
import { recordAudit } from '../audit/audit-store.ts';
import type { UserCaller } from '../http/register-routes.ts';
import { consumeChallenge, deleteOldestChallenges, insertChallenge } from '../second-factors/challenge-store.ts';
import { securityNotice } from '../second-factors/security-notices.ts';
import { checkNewCredential, readChallenge, signatureAlgorithms } from './check-credential.ts';
import { passkeySite } from './passkey-site.ts';
import { insertPasskey, listCredentials, listPasskeys, type Passkey } from './passkey-store.ts';

/** Passkeys of one account. */
export const maxPasskeys = 50;
export const challengeMs = 5 * 60_000;
/** An authenticator that knows its passkeys by itself, so that nobody need say who they are, and its user. */
const discoverable = { residentKey: 'required', requireResidentKey: true, userVerification: 'required' } as const;
const purpose = 'passkey_registration';

/** What the user's browser makes a passkey by. Throws `invalid_state` where there can be none. */
export async function beginPasskey(
  { database, clock, accounts }: AccountDeps,
  { userId, email, name }: UserCaller,
): Promise<PasskeyCreationOptions> {
  const { rpId } = passkeySite(accounts.settings.publicUrl);
  const known = await listCredentials(database.db, userId, { limit: maxPasskeys });
  const { challenge, rp, user, pubKeyCredParams } = await generateRegistrationOptions({
    rpName: 'Aviary',
    rpID: rpId,
    userID: Uint8Array.from(Buffer.from(userId)),
    userName: email,
    userDisplayName: name,
    timeout: challengeMs,
    attestationType: 'none',
    supportedAlgorithmIDs: [...signatureAlgorithms],
    authenticatorSelection: discoverable,
  });
  const now = new Date(clock.now());
  const expiresAt = new Date(now.getTime() + challengeMs);
  await deleteOldestChallenges(database.db, { userId, kept: maxPasskeys });
  await insertChallenge(database.db, { secret: challenge, purpose, userId, now, expiresAt });
  return {
    challenge,
    rp: { id: rpId, name: rp.name },
    user,
    pubKeyCredParams: pubKeyCredParams.map(({ alg }) => ({ alg, type: 'public-key' })),
    excludeCredentials: known.map(({ credential_id: id, transports }) => ({ id, transports, type: 'public-key' })),
    authenticatorSelection: discoverable,
    attestation: 'none',
    timeout: challengeMs,
  };
}

/** Takes a passkey in that was made by the options. Throws `invalid_request` when it was not, `already_exists`, `invalid_state` when there are too many. */
export async function addPasskey(
  { database, clock, accounts, logger, mailer }: AccountDeps,
  { userId, email, actor }: UserCaller,
  { name = 'Passkey', credential }: AddPasskey,
): Promise<Passkey> {
  const site = passkeySite(accounts.settings.publicUrl);
  const now = new Date(clock.now());
  const challenge = readChallenge(credential);
  // Gone whatever comes of it.
  const asked = challenge && (await consumeChallenge(database.db, { secret: challenge, purpose, now }));
  if (!asked || asked.user_id !== userId) {
    throw notMade('the challenge is unknown, used or expired; ask for new options and try again');
  }
  const made = await checkNewCredential(credential, { site, challenge });
  if ('fault' in made) {
    logger.info({ err: made.fault, userId }, 'a passkey is refused');
    if (made.isCertified)
      throw notMade('attestation with certificates is not taken; make the passkey by the options that you get');
    throw notMade(
      `this is no passkey for ${site.origin} by which its device has verified you; ask for new options and try again`,
    );
  }
  return await database.transaction(async (unit) => {
    const { db } = unit;
    await lockAccount(db, userId);
    if ((await listPasskeys(db, userId, { limit: maxPasskeys })).length >= maxPasskeys) {
      throw new AppError('invalid_state', `an account has at most ${maxPasskeys} passkeys; remove one first`);
    }
    const transports = credential.response.transports ?? [];
    const added = await insertPasskey(db, { ...made, userId, name: name.trim(), transports, now });
    if (!added) throw new AppError('already_exists', 'this passkey is there already');
    await recordAudit(db, {
      teamId: platformTeamId,
      actor,
      action: 'user.passkey_add',
      resourceId: userId,
      metadata: { passkey_id: added.id, label: added.name },
    });
    await mailer.queue(unit, securityNotice('passkey_added', { userId, email, now }));
    return added;
  });
}

function notMade(message: string): AppError {
  return new AppError('invalid_request', message, { details: { field: 'credential' } });
}
