import { type IdentityId, platformTeamId, type SessionId } from '@aviary/core';
import type { UnitOfWork } from '@aviary/database';
import { getAccount, lockAccount } from '../accounts/account-store.ts';
import { lockOpenSession } from '../accounts/session-store.ts';
import { actorOf } from '../accounts/sign-up.ts';
import { requireWayIn } from '../accounts/ways-in-store.ts';
import { recordAudit } from '../audit/audit-store.ts';
import type { UserCaller } from '../http/register-routes.ts';
import { securityNotice } from '../second-factors/security-notices.ts';
import { type IdentityDeps, issuersOf } from './identity-deps.ts';
import type { Profile } from './identity-provider.ts';
import type { Provider } from './identity-providers.ts';
import { deleteIdentity, findIdentityUser, insertIdentity, lockIdentity, touchIdentity } from './identity-store.ts';
import { SignInFault } from './sign-in-fault.ts';

/** Links who came back with the account of the session that began. Throws SignInFault. */
export async function linkIdentity(
  { clock, mailer }: IdentityDeps,
  unit: UnitOfWork,
  { provider, profile, sessionId }: { provider: Provider; profile: Profile; sessionId: SessionId },
): Promise<void> {
  const { db } = unit;
  const now = new Date(clock.now());
  const session = await lockOpenSession(db, sessionId, now);
  if (session?.status !== 'active') throw new SignInFault('session_ended');
  const userId = session.user_id;
  const key = { issuer: provider.issuer, subject: profile.subject };
  await lockIdentity(db, key);
  const holder = await findIdentityUser(db, key);
  if (holder === userId) return touchIdentity(db, key, { email: profile.email, now });
  if (holder !== undefined) throw new SignInFault('identity_taken');
  await insertIdentity(db, { ...key, userId, email: profile.email, now });
  const account = await getAccount(db, userId);
  await recordAudit(db, {
    teamId: platformTeamId,
    actor: actorOf(account),
    action: 'user.identity_link',
    resourceId: userId,
    metadata: { provider: provider.id, issuer: provider.issuer },
  });
  await mailer.queue(unit, securityNotice('identity_linked', { userId, email: account.email, now }));
}

/** False when the caller has no such identity. Throws `invalid_state` when it is the last way in. */
export async function unlinkIdentity(
  { database, identityProviders }: IdentityDeps,
  caller: UserCaller,
  id: IdentityId,
): Promise<boolean> {
  const { userId } = caller;
  return await database.transaction(async ({ db }) => {
    await lockAccount(db, userId);
    const issuer = await deleteIdentity(db, userId, id);
    if (issuer === undefined) return false;
    await requireWayIn(db, { userId, issuers: issuersOf(identityProviders) });
    await recordAudit(db, {
      teamId: platformTeamId,
      actor: caller.actor,
      action: 'user.identity_unlink',
      resourceId: userId,
      metadata: { issuer },
    });
    return true;
  });
}
