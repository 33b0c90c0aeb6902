import type { SecondFactorNeeded, SignedIn } from '@aviary/api-contract';
import { platformTeamId } from '@aviary/core';
import type { FastifyReply } from 'fastify';
import { recordAudit } from '../audit/audit-store.ts';
import type { Db } from '../context.ts';
import { deleteOldestChallenges, insertChallenge } from '../second-factors/challenge-store.ts';
import { findSecondFactor } from '../second-factors/second-factor-store.ts';
import { newSecret } from '../secrets.ts';
import type { AccountDeps, AccountSettings } from './account-deps.ts';
import type { Account } from './account-store.ts';
import { type Device, type IssuedSession, openSession } from './open-session.ts';
import { deliver } from './session-cookie.ts';
import { actorOf } from './sign-up.ts';

const challengeMs = 5 * 60_000;
/** Log-ins that one person is half-way through; a further one ends the oldest. */
const maxChallenges = 20;

/** Somebody who has shown who they are, in the transaction that has made sure of it and that the account is active. */
export interface SignIn {
  account: Account;
  /** By what: for the audit log. */
  method: string;
  device: Device;
  now: Date;
}

/** A session, or what is to be shown before there is one. */
export type SignInResult = { session: IssuedSession } | { secondFactor: SecondFactorNeeded };

/** After the first factor: opens a session, or asks for the second factor where the account has one. */
export async function signIn(deps: AccountDeps, db: Db, shown: SignIn): Promise<SignInResult> {
  const { account, method, now } = shown;
  const factor = await findSecondFactor(db, account.id);
  if (!factor) return { session: await openSignedIn(deps, db, shown) };
  const secret = newSecret('avyc_');
  const expiresAt = new Date(now.getTime() + challengeMs);
  await deleteOldestChallenges(db, { userId: account.id, kept: maxChallenges - 1 });
  await insertChallenge(db, { secret, purpose: 'second_factor', userId: account.id, method, now, expiresAt });
  return {
    secondFactor: {
      challenge: secret,
      challenge_expires_at: expiresAt.toISOString(),
      methods: factor.recovery_codes_left > 0 ? ['totp', 'recovery_code'] : ['totp'],
    },
  };
}

/** After all factors: opens a session and tells the log by what. */
export async function openSignedIn(
  deps: AccountDeps,
  db: Db,
  { account, method, device, now, secondFactor }: SignIn & { secondFactor?: string },
): Promise<IssuedSession> {
  await recordAudit(db, {
    teamId: platformTeamId,
    actor: actorOf(account),
    action: 'user.log_in',
    resourceId: account.id,
    metadata: { method, ...(secondFactor === undefined ? {} : { second_factor: secondFactor }) },
  });
  return openSession(deps, db, { account, device, now });
}

/** The answer to a sign-in, with `status` where it opened a session and 202 where there is more to show. */
export function deliverSignIn<S extends number>(
  settings: AccountSettings,
  reply: FastifyReply,
  { result, to = 'cookie', status }: { result: SignInResult; to: 'cookie' | 'body' | undefined; status: S },
): { status: S; body: SignedIn } | { status: 202; body: SecondFactorNeeded } {
  if ('session' in result) return { status, body: deliver(settings, reply, { ...result.session, to }) };
  return { status: 202, body: result.secondFactor };
}
