import { parseEmail, platformTeamId } from '@aviary/core';
import { revokeKeys } from '../api-keys/revoke-keys.ts';
import { recordAudit } from '../audit/audit-store.ts';
import type { Db } from '../context.ts';
import type { AccountDeps } from './account-deps.ts';
import { passwordChangedMail, resetMail } from './account-mails.ts';
import { type AccountWithPassword, lockAccount, markEmailVerified, updateAccount } from './account-store.ts';
import { linkUseRules, resetRules } from './attempt-limit.ts';
import { consumeOneTimeToken, deleteOneTimeTokens, isOneTimeTokenGood } from './one-time-token-store.ts';
import { revokeSessions } from './session-store.ts';
import { actorOf } from './sign-up.ts';
import { badLink } from './verify-email.ts';
import { deleteOtherWaysIn } from './ways-in-store.ts';

/**
 * Sends a link to set a new password, if the address is somebody's. Nobody is looked up here: the same is done for every address, so neither the
 * answer nor its time tells whose it is. Throws `rate_limited`.
 */
export async function requestPasswordReset(deps: AccountDeps, text: string, ipAddress: string): Promise<void> {
  const { database, clock, accounts, mailer } = deps;
  const email = parseEmail(text);
  accounts.attempts.take(resetRules({ emailKey: email.key, ip: ipAddress }));
  await database.transaction((unit) => mailer.queue(unit, resetMail(email, new Date(clock.now()))));
}

/**
 * Sets a new password by a link, and ends all sessions. Nobody is logged in by it: a second factor is still asked for then. Throws
 * `unauthorized` for a link that is not good, `rate_limited`.
 */
export async function confirmPasswordReset(
  deps: AccountDeps,
  { secret, password }: { secret: string; password: string },
  ipAddress: string,
): Promise<void> {
  const { database, clock, accounts, mailer } = deps;
  accounts.attempts.take(linkUseRules(ipAddress));
  const now = new Date(clock.now());
  const token = { secret, purpose: 'password_reset', now } as const;
  // A hash is worth some memory and time: not for who has no link.
  if (!(await isOneTimeTokenGood(database.db, token))) throw badLink();
  const passwordHash = await accounts.hasher.hash(password);
  await database.transaction(async (unit) => {
    const { db } = unit;
    const used = await consumeOneTimeToken(db, token);
    if (!used?.userId) throw badLink();
    const account = await lockAccount(db, used.userId);
    if (account.status !== 'active') throw badLink();
    await updateAccount(db, account.id, { passwordHash, now });
    const ended = await revokeSessions(db, { userId: account.id, reason: 'password_reset', now });
    await deleteOneTimeTokens(db, 'password_reset', account.id);
    if (used.isMailed) await takeOver(db, account, now);
    await recordAudit(db, {
      teamId: platformTeamId,
      actor: actorOf(account),
      action: 'user.password_reset',
      resourceId: account.id,
      metadata: { sessions: ended.length, by_mail: used.isMailed },
    });
    await mailer.queue(unit, passwordChangedMail(account, now));
  });
}

/**
 * Who has a link that was mailed reads the account's address. Was it never verified, the account may have been made by somebody who does not: what they
 * left in it to come back by goes. A second factor stays: who cannot show it asks who runs the platform, as nobody else could be told from a thief.
 */
async function takeOver(db: Db, account: AccountWithPassword, now: Date): Promise<void> {
  if (account.email_verified_at !== null) return;
  await markEmailVerified(db, account.id, now);
  const actor = actorOf(account);
  const cause = 'the address of its maker was not verified, and their password was reset';
  const entry = { teamId: platformTeamId, actor, resourceId: account.id };
  const { identities, passkeys } = await deleteOtherWaysIn(db, account.id);
  for (const { issuer } of identities)
    await recordAudit(db, { ...entry, action: 'user.identity_unlink', metadata: { issuer, cause } });
  for (const { id, name } of passkeys)
    await recordAudit(db, {
      ...entry,
      action: 'user.passkey_remove',
      metadata: { passkey_id: id, label: name, cause },
    });
  await revokeKeys(db, { selection: { createdBy: account.id }, actor, now, cause });
}
