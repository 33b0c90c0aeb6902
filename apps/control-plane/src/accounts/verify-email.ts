import { AppError, platformTeamId } from '@aviary/core';
import { recordAudit } from '../audit/audit-store.ts';
import type { UserCaller } from '../http/register-routes.ts';
import type { AccountDeps } from './account-deps.ts';
import { verificationMail } from './account-mails.ts';
import { getAccount, lockAccount, markEmailVerified } from './account-store.ts';
import { linkUseRules, verificationRules } from './attempt-limit.ts';
import { consumeOneTimeToken } from './one-time-token-store.ts';
import { actorOf } from './sign-up.ts';

/** Sends the caller another link; nothing when their address is verified. Throws `rate_limited`. */
export async function requestVerification(deps: AccountDeps, { userId }: UserCaller): Promise<void> {
  const { database, clock, accounts, mailer } = deps;
  const account = await getAccount(database.db, userId);
  if (account.email_verified_at !== null) return;
  accounts.attempts.take(verificationRules(userId));
  await database.transaction((unit) => mailer.queue(unit, verificationMail(account, new Date(clock.now()))));
}

/** Takes the address of a link's account for theirs. Throws `unauthorized` for a link that is not good, `rate_limited`. */
export async function verifyEmail(deps: AccountDeps, secret: string, ipAddress: string): Promise<void> {
  const { database, clock, accounts } = deps;
  accounts.attempts.take(linkUseRules(ipAddress));
  const now = new Date(clock.now());
  await database.transaction(async ({ db }) => {
    const used = await consumeOneTimeToken(db, { secret, purpose: 'email_verification', now });
    if (!used?.userId) throw badLink();
    const account = await lockAccount(db, used.userId);
    if (account.status !== 'active') throw badLink();
    if (account.email_verified_at !== null) return;
    await markEmailVerified(db, account.id, now);
    await recordAudit(db, {
      teamId: platformTeamId,
      actor: actorOf(account),
      action: 'user.email_verify',
      resourceId: account.id,
      metadata: { by_mail: used.isMailed },
    });
  });
}

/** Of a link that is unknown, used, expired, or of an account that is closed. */
export function badLink(): AppError {
  return new AppError('unauthorized', 'the link is unknown, used or expired; ask for another one');
}
