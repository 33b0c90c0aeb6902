import { readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import type { ClaimPlatform } from '@aviary/api-contract';
import { AppError, parseEmail, platformTeamId } from '@aviary/core';
import { writeDurableFile } from '@aviary/service-kit';
import { recordAudit } from '../audit/audit-store.ts';
import type { Db, ServiceContext } from '../context.ts';
import type { AccountDeps } from './account-deps.ts';
import { verificationMail } from './account-mails.ts';
import { type Account, findAccountByEmail, updateAccount } from './account-store.ts';
import { signUpRules } from './attempt-limit.ts';
import { hasAdmin, joinFirstTeam, lockClaims } from './claim-store.ts';
import { requireActive } from './log-in.ts';
import {
  consumeOneTimeToken,
  deleteOneTimeTokens,
  insertOneTimeToken,
  isOneTimeTokenGood,
} from './one-time-token-store.ts';
import type { Device } from './open-session.ts';
import { type SignInResult, signIn } from './sign-in.ts';
import { actorOf, createAccount, nameOf } from './sign-up.ts';

/** Starting again makes a new one. */
const claimMs = 30 * 24 * 3600 * 1000;

/** While the platform has no administrator, keeps a code in `bootstrap/claim-code` with which the first one claims it. */
export async function offerClaim(
  { database, clock }: Pick<ServiceContext, 'database' | 'clock'>,
  dataDirectory: string,
): Promise<void> {
  const file = claimFile(dataDirectory);
  const now = new Date(clock.now());
  if (await hasAdmin(database.db)) return rm(file, { force: true });
  const known = (await readFile(file, 'utf8').catch(() => '')).trim();
  if (await isOneTimeTokenGood(database.db, { secret: known, purpose: 'claim', now })) return;
  const code = await insertOneTimeToken(database.db, {
    purpose: 'claim',
    now,
    expiresAt: new Date(now.getTime() + claimMs),
  });
  await writeDurableFile(file, `${code}\n`);
}

/** Makes an account, or takes the one with this address and password: the platform's first administrator. Throws `unauthorized` for a code that is not good. */
export async function claimPlatform(
  deps: AccountDeps & { dataDirectory: string },
  request: ClaimPlatform,
  device: Device,
): Promise<SignInResult> {
  const { database, clock, accounts, dataDirectory, logger } = deps;
  accounts.attempts.take(signUpRules(device.ipAddress));
  const email = parseEmail(request.email);
  const now = new Date(clock.now());
  const known = await findAccountByEmail(database.db, email.key);
  const isOwner = await accounts.hasher.verify(request.password, known?.password_hash ?? null);
  const passwordHash = await accounts.hasher.hash(request.password);
  return await database.transaction(async (unit) => {
    const { db, afterCommit } = unit;
    await lockClaims(db);
    const isGood = await consumeOneTimeToken(db, { secret: request.code.trim(), purpose: 'claim', now });
    if (!isGood || (await hasAdmin(db))) {
      throw new AppError(
        'unauthorized',
        'the code is unknown, used or expired; a restart makes a new one while nobody has claimed the platform',
      );
    }
    await deleteOneTimeTokens(db, 'claim');
    const account = known
      ? existing(known, isOwner)
      : await createAccount(db, {
          email: email.address,
          emailKey: email.key,
          name: request.name?.trim() ?? nameOf(email.address),
          passwordHash,
        });
    const admin = await makeAdmin(db, account, now);
    if (account.email_verified_at === null) await deps.mailer.queue(unit, verificationMail(account, now));
    afterCommit(() => void removeCode({ dataDirectory, logger }));
    return signIn(deps, db, { account: admin, method: 'claim', device, now });
  });
}

function existing(account: Account, isOwner: boolean): Account {
  if (!isOwner) {
    throw new AppError(
      'already_exists',
      'there is an account with this e-mail address and another password; use that one',
      {
        details: { field: 'email' },
      },
    );
  }
  requireActive(account);
  return account;
}

async function makeAdmin(db: Db, account: Account, now: Date): Promise<Account> {
  await updateAccount(db, account.id, { isAdmin: true, now });
  const teamId = await joinFirstTeam(db, account.id);
  await recordAudit(db, {
    teamId: platformTeamId,
    actor: actorOf(account),
    action: 'platform.claim',
    resourceId: account.id,
    metadata: { team_id: teamId },
  });
  return { ...account, is_admin: true };
}

async function removeCode({
  dataDirectory,
  logger,
}: {
  dataDirectory: string;
  logger: AccountDeps['logger'];
}): Promise<void> {
  await rm(claimFile(dataDirectory), { force: true }).catch((error: unknown) =>
    logger.warn({ err: error }, 'the used claim code is left in its file'),
  );
}

function claimFile(dataDirectory: string): string {
  return path.join(dataDirectory, 'bootstrap', 'claim-code');
}
