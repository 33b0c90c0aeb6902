import { AppError, type Email, parseEmail, platformTeamId, type UserId } from '@aviary/core';
import { getAccount } from '../accounts/account-store.ts';
import { createAccount, createOwnTeam, nameOf } from '../accounts/sign-up.ts';
import { recordAudit } from '../audit/audit-store.ts';
import type { Db } from '../context.ts';
import type { Profile } from './identity-provider.ts';
import type { Provider } from './identity-providers.ts';
import { findIdentityUser, insertIdentity, lockIdentity, touchIdentity } from './identity-store.ts';
import { SignInFault } from './sign-in-fault.ts';

const maxNameLength = 100;

/**
 * Whose account it is that the provider vouches for; a new one for somebody unknown. An account that has the address and
 * not the identity is never given: whoever made it need not be the one who has the address, and a provider may be wrong. Throws SignInFault.
 */
export async function findOrCreateAccount(
  db: Db,
  { provider, profile, now }: { provider: Provider; profile: Profile; now: Date },
): Promise<UserId> {
  const key = { issuer: provider.issuer, subject: profile.subject };
  await lockIdentity(db, key);
  const known = await findIdentityUser(db, key);
  if (known !== undefined) {
    const { status } = await getAccount(db, known);
    if (status !== 'active') throw new SignInFault('account_deactivated', { userId: known });
    await touchIdentity(db, key, { email: profile.email, now });
    return known;
  }
  const email = verifiedEmail(profile);
  const account = await createAccount(db, {
    email: email.address,
    emailKey: email.key,
    name: readableName(profile.name) ?? nameOf(email.address),
    passwordHash: null,
    emailVerifiedAt: now,
  }).catch(refuseTaken);
  await createOwnTeam(db, account);
  await insertIdentity(db, { ...key, userId: account.id, email: profile.email, now });
  await recordAudit(db, {
    teamId: platformTeamId,
    actor: { type: 'user', id: account.id, name: account.email },
    action: 'user.identity_link',
    resourceId: account.id,
    metadata: { provider: provider.id, issuer: provider.issuer },
  });
  return account.id;
}

function verifiedEmail({ email, isEmailVerified }: Profile): Email {
  if (email === null || !isEmailVerified) throw new SignInFault('email_unverified');
  try {
    return parseEmail(email);
  } catch (cause) {
    throw new SignInFault('email_unverified', { cause });
  }
}

function refuseTaken(error: unknown): never {
  if (error instanceof AppError && error.code === 'already_exists')
    throw new SignInFault('email_taken', { cause: error });
  throw error;
}

/** One line without what cannot be seen; null when nothing is left. */
function readableName(name: string | null): string | null {
  const line = (name ?? '').replaceAll(/[\p{C}\s]+/gu, ' ').trim();
  return line.slice(0, maxNameLength).toWellFormed() || null;
}
