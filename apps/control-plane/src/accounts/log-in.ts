import type { LogIn } from '@aviary/api-contract';
import { AppError, parseEmail, platformTeamId } from '@aviary/core';
import { recordAudit } from '../audit/audit-store.ts';
import type { AccountDeps } from './account-deps.ts';
import { type AccountWithPassword, findAccountByEmail, lockAccount, replacePasswordHash } from './account-store.ts';
import { logInRules, pairKey } from './attempt-limit.ts';
import type { Device } from './open-session.ts';
import { type SignInResult, signIn } from './sign-in.ts';

/** Signs in who knows the password. Throws `unauthorized`, after as much work, also for an address that is nobody's. */
export async function logIn(deps: AccountDeps, request: LogIn, device: Device): Promise<SignInResult> {
  const known = await checkPassword(deps, request, device);
  const now = new Date(deps.clock.now());
  return await deps.database.transaction(async ({ db }) => {
    const account = await lockAccount(db, known.id);
    // Changed, or the account closed, while the hash was computed.
    if (account.password_hash !== known.password_hash) throw wrongPassword();
    requireActive(account);
    return signIn(deps, db, { account, method: 'password', device, now });
  });
}

/** The account with this address and password. */
async function checkPassword(
  { database, accounts }: AccountDeps,
  { email, password }: { email: string; password: string },
  { ipAddress }: Device,
): Promise<AccountWithPassword> {
  const { key: emailKey } = parseEmail(email);
  accounts.attempts.take(logInRules({ emailKey, ip: ipAddress }));
  const account = await findAccountByEmail(database.db, emailKey);
  const isRight = await accounts.hasher.verify(password, account?.password_hash ?? null);
  if (!account || !isRight) {
    // Of a stranger's address as well: nothing tells the two apart, not even the time.
    await recordAudit(database.db, {
      teamId: platformTeamId,
      actor: { type: 'system', id: null, name: 'log-in' },
      action: 'user.log_in_failed',
      resourceId: account?.id ?? null,
    });
    throw wrongPassword();
  }
  accounts.attempts.clear(pairKey({ emailKey, ip: ipAddress }));
  return account.password_hash !== null && accounts.hasher.isOutdated(account.password_hash)
    ? await renewHash({ database, accounts }, { account, old: account.password_hash, password })
    : account;
}

/** Throws `forbidden` for an account that is closed to its owner: told to nobody but who has its password. */
export function requireActive({ status }: Pick<AccountWithPassword, 'status'>): void {
  if (status === 'deleted') throw wrongPassword();
  if (status !== 'active') throw new AppError('forbidden', 'this account is deactivated; ask who runs the platform');
}

async function renewHash(
  { database, accounts }: Pick<AccountDeps, 'database' | 'accounts'>,
  { account, old, password }: { account: AccountWithPassword; old: string; password: string },
): Promise<AccountWithPassword> {
  const renewed = await accounts.hasher.hash(password);
  await replacePasswordHash(database.db, account.id, { old, new: renewed });
  return { ...account, password_hash: renewed };
}

function wrongPassword(): AppError {
  return new AppError('unauthorized', 'the e-mail address or the password is wrong');
}
