import { newId, type SessionId, type TeamId, type TeamRole, type UserId } from '@aviary/core';
import type { Db } from './context.ts';

const sessionMs = 24 * 3600 * 1000;

/** For tests: a team of its own, without members. */
export async function insertTestTeam(db: Db, name = 'Test team'): Promise<TeamId> {
  const id = newId('team');
  await db
    .insertInto('teams')
    .values({ id, name, slug: id.replaceAll('-', '').slice(-12) })
    .execute();
  return id;
}

/** For tests: a person as signing up would leave them, in `membership` if one is given. */
export async function insertTestUser(
  db: Db,
  {
    email,
    isAdmin = false,
    membership,
  }: { email?: string; isAdmin?: boolean; membership?: { teamId: TeamId; role: TeamRole } },
): Promise<{ userId: UserId; email: string }> {
  const userId = newId('user');
  const address = email ?? `${userId}@example.com`;
  await db
    .insertInto('users')
    .values({
      id: userId,
      email: address,
      email_key: address.toLowerCase(),
      name: address.split('@', 1)[0] ?? '',
      password_hash: null,
      is_admin: isAdmin,
      email_verified_at: new Date(),
    })
    .execute();
  if (membership) {
    await db
      .insertInto('team_members')
      .values({ team_id: membership.teamId, user_id: userId, role: membership.role })
      .execute();
  }
  return { userId, email: address };
}

/** For tests: a session as logging in would leave it. */
export async function insertTestSession(db: Db, userId: UserId): Promise<SessionId> {
  const id = newId('session');
  await db
    .insertInto('sessions')
    .values({ id, user_id: userId, expires_at: new Date(Date.now() + sessionMs), revoke_reason: null })
    .execute();
  return id;
}
