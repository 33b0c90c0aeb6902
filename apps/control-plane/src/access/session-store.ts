import type { SessionId, TeamId, TeamRole, UserId } from '@aviary/core';
import type { UserStatus } from '@aviary/database';
import type { Db } from '../context.ts';

/** Whose session it is, and what they are in one team. */
export interface SessionUser {
  userId: UserId;
  sessionId: SessionId;
  email: string;
  name: string;
  isAdmin: boolean;
  status: UserStatus;
  /** The team that the access token is for. */
  currentTeamId: TeamId | null;
  /** The team that was asked about; with `role` null, one that is gone or that the user is not in. */
  teamId: TeamId | null;
  role: TeamRole | null;
}

/** The user of a session that is still good, in one query; undefined when it has ended. */
export async function findSessionUser(
  db: Db,
  asked: { userId: UserId; sessionId: SessionId; teamId: TeamId | null; currentTeamId: TeamId | null },
  now: Date,
): Promise<SessionUser | undefined> {
  const row = await db
    .selectFrom('sessions')
    .innerJoin('users', 'users.id', 'sessions.user_id')
    .leftJoin(
      (from) =>
        from
          .selectFrom('team_members')
          .innerJoin('teams', 'teams.id', 'team_members.team_id')
          .select(['team_members.user_id', 'team_members.role'])
          .where('teams.deleted_at', 'is', null)
          .where('teams.id', '=', asked.teamId)
          .as('membership'),
      (join) => join.onRef('membership.user_id', '=', 'users.id'),
    )
    .select(['users.email', 'users.name', 'users.is_admin', 'users.status', 'membership.role'])
    .where('sessions.id', '=', asked.sessionId)
    .where('sessions.user_id', '=', asked.userId)
    .where('sessions.revoked_at', 'is', null)
    .where('sessions.expires_at', '>', now)
    .executeTakeFirst();
  if (!row) return undefined;
  const { email, name, is_admin: isAdmin, status, role } = row;
  return { ...asked, email, name, isAdmin, status, role };
}
