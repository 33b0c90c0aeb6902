import { AppError, platformTeamId } from '@aviary/core';
import { recordAudit } from '../audit/audit-store.ts';
import type { UserCaller } from '../http/register-routes.ts';
import type { AccountDeps } from './account-deps.ts';
import { passwordChangedMail } from './account-mails.ts';
import { getAccount, lockAccount, updateAccount } from './account-store.ts';
import { confirmPassword, confirmSecondFactor } from './confirm-owner.ts';
import { deleteOneTimeTokens } from './one-time-token-store.ts';
import { revokeSessions } from './session-store.ts';

/** Changes the password, or sets one where there is none, and ends the user's other sessions. Throws `forbidden` when the present one is wrong, or the code of a second factor. */
export async function changePassword(
  deps: AccountDeps,
  caller: UserCaller,
  {
    current,
    wanted,
    code,
    ipAddress,
  }: { current: string | undefined; wanted: string; code: string | undefined; ipAddress: string },
): Promise<void> {
  const { database, clock, accounts, mailer } = deps;
  const known = await getAccount(database.db, caller.userId);
  await confirmPassword(deps, caller, { account: known, password: current, ipAddress, field: 'current_password' });
  await confirmSecondFactor(deps, caller, code);
  const passwordHash = await accounts.hasher.hash(wanted);
  const now = new Date(clock.now());
  await database.transaction(async (unit) => {
    const { db } = unit;
    const account = await lockAccount(db, caller.userId);
    if (account.password_hash !== known.password_hash) {
      throw new AppError('conflict', 'the password was changed meanwhile; try again with the new one');
    }
    await updateAccount(db, account.id, { passwordHash, now });
    await revokeSessions(db, { userId: account.id, reason: 'password_change', now, except: caller.sessionId });
    await recordAudit(db, {
      teamId: platformTeamId,
      actor: caller.actor,
      action: 'user.password_change',
      resourceId: account.id,
    });
    await deleteOneTimeTokens(db, 'password_reset', account.id);
    await mailer.queue(unit, passwordChangedMail(account, now));
  });
}
