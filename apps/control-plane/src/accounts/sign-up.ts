import type { SignUp } from '@aviary/api-contract';
import { AppError, parseEmail, platformTeamId } from '@aviary/core';
import { recordAudit } from '../audit/audit-store.ts';
import type { Actor, Db } from '../context.ts';
import { insertMember } from '../teams/member-store.ts';
import { insertTeam } from '../teams/team-store.ts';
import type { AccountDeps } from './account-deps.ts';
import { verificationMail } from './account-mails.ts';
import { type Account, insertAccount, type NewAccount } from './account-store.ts';
import { signUpRules } from './attempt-limit.ts';
import { type Device, type IssuedSession, openSession } from './open-session.ts';

/** Makes an account, a team of its own and a session, all or nothing. Throws `already_exists` when the address is taken. */
export async function signUp(deps: AccountDeps, request: SignUp, device: Device): Promise<IssuedSession> {
  deps.accounts.attempts.take(signUpRules(device.ipAddress));
  const email = parseEmail(request.email);
  const passwordHash = await deps.accounts.hasher.hash(request.password);
  const name = request.name?.trim() ?? nameOf(email.address);
  const now = new Date(deps.clock.now());
  return await deps.database.transaction(async (unit) => {
    const { db } = unit;
    const account = await createAccount(db, {
      email: email.address,
      emailKey: email.key,
      name,
      passwordHash,
    });
    await createOwnTeam(db, account);
    await deps.mailer.queue(unit, verificationMail(account, now));
    return openSession(deps, db, { account, device, now });
  });
}

/** Throws `already_exists`. */
export async function createAccount(db: Db, fields: NewAccount): Promise<Account> {
  const account = await insertAccount(db, fields);
  if (!account) {
    throw new AppError(
      'already_exists',
      'there is an account with this e-mail address; log in, or reset its password',
      {
        details: { field: 'email' },
      },
    );
  }
  await recordAudit(db, {
    teamId: platformTeamId,
    actor: actorOf(account),
    action: 'user.sign_up',
    resourceId: account.id,
    metadata: { email: account.email, name: account.name },
  });
  return account;
}

/** The team that everybody has from the start. */
export async function createOwnTeam(db: Db, account: Pick<Account, 'id' | 'email' | 'name'>): Promise<void> {
  const team = await insertTeam(db, `${account.name}'s team`);
  await insertMember(db, { teamId: team.id, userId: account.id, role: 'owner' });
  await recordAudit(db, {
    teamId: team.id,
    actor: actorOf(account),
    action: 'team.create',
    resourceId: team.id,
    metadata: { slug: team.slug },
  });
}

export function actorOf(account: Pick<Account, 'id' | 'email'>): Actor {
  return { type: 'user', id: account.id, name: account.email };
}

/** What to call one who gave no name. */
export function nameOf(address: string): string {
  return address.split('@', 1)[0] ?? address;
}
