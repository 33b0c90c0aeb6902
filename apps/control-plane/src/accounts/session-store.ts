import { newId, type SessionId, type TeamId, type UserId } from '@aviary/core';
import type { UserStatus } from '@aviary/database';
import type { Db } from '../context.ts';
import { tellAccessChanged } from '../http/access-change-store.ts';
import { deleteChallenges } from '../second-factors/challenge-store.ts';
import { deleteSignInCodes } from './sign-in-code-store.ts';

export interface NewSession {
  userId: UserId;
  teamId: TeamId | null;
  userAgent: string;
  ipAddress: string;
  now: Date;
  expiresAt: Date;
}

export async function insertSession(db: Db, session: NewSession): Promise<SessionId> {
  const id = newId('session');
  await db
    .insertInto('sessions')
    .values({
      id,
      user_id: session.userId,
      team_id: session.teamId,
      user_agent: session.userAgent,
      ip_address: session.ipAddress,
      created_at: session.now,
      last_seen_at: session.now,
      expires_at: session.expiresAt,
      revoke_reason: null,
    })
    .execute();
  return id;
}

export async function insertRefreshToken(
  db: Db,
  token: { sessionId: SessionId; tokenHash: string; now: Date },
): Promise<void> {
  await db
    .insertInto('session_tokens')
    .values({ token_hash: token.tokenHash, session_id: token.sessionId, created_at: token.now })
    .execute();
}

/** Uses a refresh token up: of many that try, one gets its session. */
export async function consumeRefreshToken(db: Db, tokenHash: string, now: Date): Promise<SessionId | undefined> {
  const row = await db
    .updateTable('session_tokens')
    .set({ used_at: now })
    .where('token_hash', '=', tokenHash)
    .where('used_at', 'is', null)
    .returning('session_id')
    .executeTakeFirst();
  return row?.session_id;
}

/** A refresh token that may have been used, and whose it is. */
export function findRefreshToken(
  db: Db,
  tokenHash: string,
): Promise<{ session_id: SessionId; used_at: Date | null; user_id: UserId; email: string } | undefined> {
  return db
    .selectFrom('session_tokens')
    .innerJoin('sessions', 'sessions.id', 'session_tokens.session_id')
    .innerJoin('users', 'users.id', 'sessions.user_id')
    .select(['session_tokens.session_id', 'session_tokens.used_at', 'sessions.user_id', 'users.email'])
    .where('token_hash', '=', tokenHash)
    .executeTakeFirst();
}

export interface OpenSession {
  user_id: UserId;
  team_id: TeamId | null;
  created_at: Date;
  status: UserStatus;
}

/** A session that has not ended, locked against being ended meanwhile. */
export function lockOpenSession(db: Db, id: SessionId, now: Date): Promise<OpenSession | undefined> {
  return db
    .selectFrom('sessions')
    .innerJoin('users', 'users.id', 'sessions.user_id')
    .select(['sessions.user_id', 'sessions.team_id', 'sessions.created_at', 'users.status'])
    .where('sessions.id', '=', id)
    .where('sessions.revoked_at', 'is', null)
    .where('sessions.expires_at', '>', now)
    .forUpdate('sessions')
    .executeTakeFirst();
}

export async function touchSession(
  db: Db,
  { id, ...change }: { id: SessionId; teamId: TeamId | null; now: Date; expiresAt?: Date },
): Promise<void> {
  await db
    .updateTable('sessions')
    .set({
      last_seen_at: change.now,
      team_id: change.teamId,
      ...(change.expiresAt ? { expires_at: change.expiresAt } : {}),
    })
    .where('id', '=', id)
    .execute();
}

/** Ends sessions of one user that are open, and tells which. */
export async function revokeSessions(
  db: Db,
  { userId, reason, now, ...which }: { userId: UserId; reason: string; now: Date; id?: SessionId; except?: SessionId },
): Promise<SessionId[]> {
  let query = db
    .updateTable('sessions')
    .set({ revoked_at: now, revoke_reason: reason })
    .where('user_id', '=', userId)
    .where('revoked_at', 'is', null)
    .where('expires_at', '>', now);
  if (which.id) query = query.where('id', '=', which.id);
  if (which.except) query = query.where('id', '<>', which.except);
  const ended = (await query.returning('id').execute()).map(({ id }) => id);
  // What is half-way to a session ends with them.
  if (!which.id) {
    await deleteChallenges(db, userId);
    await deleteSignInCodes(db, userId);
  }
  if (ended.length > 0) await tellAccessChanged(db, { type: 'user', id: userId });
  return ended;
}

/** Ends the oldest open sessions of a user beyond `kept`, with what they have open. */
export async function revokeOldestSessions(
  db: Db,
  { userId, kept, now }: { userId: UserId; kept: number; now: Date },
): Promise<void> {
  const ended = await db
    .updateTable('sessions')
    .set({ revoked_at: now, revoke_reason: 'too_many' })
    .where('id', 'in', (from) =>
      from
        .selectFrom('sessions')
        .select('id')
        .where('user_id', '=', userId)
        .where('revoked_at', 'is', null)
        .where('expires_at', '>', now)
        .orderBy('created_at', 'desc')
        .orderBy('id', 'desc')
        .offset(kept),
    )
    .returning('id')
    .execute();
  if (ended.length > 0) await tellAccessChanged(db, { type: 'user', id: userId });
}

export interface ListedSession {
  id: SessionId;
  user_agent: string;
  ip_address: string;
  created_at: Date;
  last_seen_at: Date;
  expires_at: Date;
}

/** The open sessions of a user, newest first. */
export function listSessions(
  db: Db,
  { userId, limit, now }: { userId: UserId; limit: number; now: Date },
): Promise<ListedSession[]> {
  return db
    .selectFrom('sessions')
    .select(['id', 'user_agent', 'ip_address', 'created_at', 'last_seen_at', 'expires_at'])
    .where('user_id', '=', userId)
    .where('revoked_at', 'is', null)
    .where('expires_at', '>', now)
    .orderBy('created_at', 'desc')
    .orderBy('id', 'desc')
    .limit(limit)
    .execute();
}

/** Removes sessions that ended before `before`, with their refresh tokens: none of them can be used, or be told from one that never was. */
export async function deleteEndedSessions(db: Db, before: Date): Promise<void> {
  await db
    .deleteFrom('sessions')
    .where((where) => where.or([where('expires_at', '<', before), where('revoked_at', '<', before)]))
    .execute();
}
