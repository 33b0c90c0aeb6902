import { AppError, platformTeamId, type TeamId } from '@aviary/core';
import { recordAudit } from '../audit/audit-store.ts';
import type { Db } from '../context.ts';
import type { UserCaller } from '../http/register-routes.ts';
import { sha256Hex } from '../secrets.ts';
import type { AccountDeps } from './account-deps.ts';
import { findMembership, getAccount } from './account-store.ts';
import { requireActive } from './log-in.ts';
import { describeSession, type IssuedSession, issueRefreshToken, sessionExpiry } from './open-session.ts';
import {
  consumeRefreshToken,
  findRefreshToken,
  lockOpenSession,
  revokeSessions,
  touchSession,
} from './session-store.ts';
import { actorOf } from './sign-up.ts';

/**
 * Two tabs of one browser share the cookie, and may refresh at once: the later one's token was used a moment before. Within this time
 * it is told to try again, with the cookie that the other has got by then, and nothing else: it gives no token, so a thief gains
 * nothing by being quick.
 */
const graceMs = 10_000;

/** Uses a refresh token up and gives the next. Throws `unauthorized`, and ends the session when the token was used before: one of two has stolen it. */
export async function refreshSession(deps: AccountDeps, token: string): Promise<IssuedSession> {
  const now = new Date(deps.clock.now());
  const tokenHash = sha256Hex(token);
  const issued = await deps.database.transaction(({ db }) => rotate(deps, db, { tokenHash, now }));
  return issued ?? refuseUsed(deps, { tokenHash, now });
}

async function rotate(
  deps: AccountDeps,
  db: Db,
  { tokenHash, now }: { tokenHash: string; now: Date },
): Promise<IssuedSession | undefined> {
  const sessionId = await consumeRefreshToken(db, tokenHash, now);
  if (!sessionId) return undefined;
  const session = await lockOpenSession(db, sessionId, now);
  if (!session) throw sessionEnded();
  requireActive(session);
  const account = await getAccount(db, session.user_id);
  const membership = await findMembership(db, { userId: session.user_id, preferred: session.team_id });
  const expiresAt = sessionExpiry(session.created_at, now);
  await touchSession(db, { id: sessionId, teamId: membership?.teamId ?? null, now, expiresAt });
  const refreshToken = await issueRefreshToken(db, sessionId, now);
  return { answer: await describeSession(deps, { account, sessionId, membership }), refreshToken };
}

async function refuseUsed(
  { database }: AccountDeps,
  { tokenHash, now }: { tokenHash: string; now: Date },
): Promise<never> {
  const known = await findRefreshToken(database.db, tokenHash);
  if (!known) throw sessionEnded();
  if (known.used_at && now.getTime() - known.used_at.getTime() <= graceMs) {
    throw new AppError('conflict', 'this refresh token was used a moment ago; try again with the one that came of it');
  }
  await database.transaction(async ({ db }) => {
    const ended = await revokeSessions(db, { userId: known.user_id, id: known.session_id, reason: 'theft', now });
    if (ended.length === 0) return;
    await recordAudit(db, {
      teamId: platformTeamId,
      actor: actorOf({ id: known.user_id, email: known.email }),
      action: 'user.session_theft',
      resourceId: known.user_id,
      metadata: { session_id: known.session_id },
    });
  });
  throw sessionEnded();
}

/** Ends the session of a refresh token, used or not; one that is unknown or over is no error. */
export async function logOut({ database, clock }: AccountDeps, token: string): Promise<void> {
  const now = new Date(clock.now());
  await database.transaction(async ({ db }) => {
    const known = await findRefreshToken(db, sha256Hex(token));
    if (!known) return;
    const ended = await revokeSessions(db, { userId: known.user_id, id: known.session_id, reason: 'log_out', now });
    if (ended.length === 0) return;
    await recordAudit(db, {
      teamId: platformTeamId,
      actor: actorOf({ id: known.user_id, email: known.email }),
      action: 'user.log_out',
      resourceId: known.user_id,
    });
  });
}

/** An access token for another of the user's teams; the session stays in it. Throws `not_found` for one that they are not in. */
export async function switchTeam(
  deps: AccountDeps,
  caller: UserCaller,
  teamId: TeamId,
): Promise<IssuedSession['answer']> {
  const now = new Date(deps.clock.now());
  return await deps.database.transaction(async ({ db }) => {
    const membership = await findMembership(db, { userId: caller.userId, preferred: teamId });
    if (membership?.teamId !== teamId) throw new AppError('not_found', 'there is no such team');
    await touchSession(db, { id: caller.sessionId, teamId, now });
    const account = await getAccount(db, caller.userId);
    return describeSession(deps, { account, sessionId: caller.sessionId, membership });
  });
}

function sessionEnded(): AppError {
  return new AppError('unauthorized', 'the session has ended; log in again');
}
