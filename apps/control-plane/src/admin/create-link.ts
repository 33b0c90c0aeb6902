import type { AccountLink } from '@aviary/api-contract';
import { AppError, platformTeamId, type UserId } from '@aviary/core';
import type { UnitOfWork } from '@aviary/database';
import { accountLinks, createLinkToken, type LinkPurpose } from '../accounts/account-link.ts';
import { recordAudit } from '../audit/audit-store.ts';
import type { UserCaller } from '../http/register-routes.ts';
import type { Mailer } from '../mail/mailer.ts';
import { getUser, holdAdmins } from './change-user.ts';

/**
 * A link for an administrator to hand over, where the platform sends no mail or it does not arrive. It logs nobody in: a password is set by it, and
 * a second factor still asked for then. Throws `not_found`, and `invalid_state` for somebody who is deactivated.
 */
export async function createLink(
  { db }: UnitOfWork,
  caller: UserCaller,
  { userId, purpose, now, mailer }: { userId: UserId; purpose: LinkPurpose; now: Date; mailer: Pick<Mailer, 'link'> },
): Promise<AccountLink> {
  await holdAdmins(db, caller);
  const user = await getUser(db, userId);
  if (user.status !== 'active') throw new AppError('invalid_state', 'this person is deactivated; let them in first');
  const { token, expiresAt } = await createLinkToken(db, { userId, purpose, isMailed: false, now });
  await recordAudit(db, {
    teamId: platformTeamId,
    actor: caller.actor,
    action: 'user.link_create',
    resourceId: userId,
    metadata: { email: user.email, purpose },
  });
  return { purpose, url: mailer.link(accountLinks[purpose].page, token), expires_at: expiresAt.toISOString() };
}
