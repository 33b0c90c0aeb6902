import type { OwnerProof } from '@aviary/api-contract';
import { AppError, platformTeamId } from '@aviary/core';
import { recordAudit } from '../audit/audit-store.ts';
import type { UserCaller } from '../http/register-routes.ts';
import { checkCode, codeRefused } from '../second-factors/check-code.ts';
import { findSecondFactor } from '../second-factors/second-factor-store.ts';
import type { AccountDeps } from './account-deps.ts';
import { type AccountWithPassword, getAccount } from './account-store.ts';
import { logInRules, pairKey } from './attempt-limit.ts';

/**
 * Makes sure once more that it is the account's owner who asks, by their password or by a code of the second factor, whichever they give of
 * those that the account has; of one that has neither, the session is all there is. Resolves with whether anything was shown. Throws `forbidden`, `rate_limited`.
 */
export async function confirmOwner(
  deps: AccountDeps,
  caller: UserCaller,
  { password, code, ipAddress }: OwnerProof & { ipAddress: string },
): Promise<boolean> {
  const account = await getAccount(deps.database.db, caller.userId);
  const hasFactor = (await findSecondFactor(deps.database.db, account.id)) !== undefined;
  if (hasFactor && code !== undefined) await confirmCode(deps, caller, code);
  else if (account.password_hash !== null) {
    await confirmPassword(deps, caller, { account, password, ipAddress, field: 'password' });
  } else if (hasFactor) throw codeMissing();
  return hasFactor || account.password_hash !== null;
}

/** By the password, where there is one. Throws `forbidden`, `rate_limited`. */
export async function confirmPassword(
  { accounts, database }: Pick<AccountDeps, 'accounts' | 'database'>,
  { actor }: UserCaller,
  {
    account,
    password,
    ipAddress,
    field,
  }: { account: AccountWithPassword; password: string | undefined; ipAddress: string; field: string },
): Promise<void> {
  if (account.password_hash === null) return;
  const who = { emailKey: account.email_key, ip: ipAddress };
  accounts.attempts.take(logInRules(who));
  if (password === undefined || !(await accounts.hasher.verify(password, account.password_hash))) {
    // Whoever has somebody's session, and tries for more.
    if (password !== undefined)
      await recordAudit(database.db, {
        teamId: platformTeamId,
        actor,
        action: 'user.password_refused',
        resourceId: account.id,
      });
    throw new AppError('forbidden', 'the current password is wrong', { details: { field } });
  }
  accounts.attempts.clear(pairKey(who));
}

/** By a code, where the account has a second factor. Throws `forbidden`, `rate_limited`. */
export async function confirmSecondFactor(
  deps: AccountDeps,
  caller: UserCaller,
  code: string | undefined,
): Promise<void> {
  if (!(await findSecondFactor(deps.database.db, caller.userId))) return;
  if (code === undefined) throw codeMissing();
  await confirmCode(deps, caller, code);
}

async function confirmCode(deps: AccountDeps, { userId, actor }: UserCaller, code: string): Promise<void> {
  const now = new Date(deps.clock.now());
  const verdict = await deps.database.transaction(({ db }) => checkCode(deps, db, { userId, code, actor, now }));
  if ('refusal' in verdict) throw codeRefused(verdict, 'forbidden');
}

function codeMissing(): AppError {
  return new AppError('forbidden', 'this account has a second factor: give a code of it', {
    details: { field: 'code' },
  });
}
