import type { TeamId, UserId } from '@aviary/core';
import { sql } from 'kysely';
import type { Db } from '../context.ts';
import { insertMember } from '../teams/member-store.ts';

/** The team whose key is in `bootstrap/api-key`. */
const firstTeamSlug = 'default';

/** One claim at a time, until the transaction ends. */
export async function lockClaims(db: Db): Promise<void> {
  await sql`SELECT pg_advisory_xact_lock(hashtext('aviary:claim'))`.execute(db);
}

export async function hasAdmin(db: Db): Promise<boolean> {
  const row = await db
    .selectFrom('users')
    .select('id')
    .where('is_admin', '=', true)
    .where('status', '=', 'active')
    .limit(1)
    .executeTakeFirst();
  return row !== undefined;
}

/** Makes the user owner of the platform's first team, or one of its admins where it has an owner. */
export async function joinFirstTeam(db: Db, userId: UserId): Promise<TeamId> {
  const { id: teamId } = await db
    .selectFrom('teams')
    .select('id')
    .where('slug', '=', firstTeamSlug)
    .forUpdate()
    .executeTakeFirstOrThrow();
  const members = await db
    .selectFrom('team_members')
    .select(['user_id', 'role'])
    .where('team_id', '=', teamId)
    .execute();
  const role = members.some((member) => member.role === 'owner') ? 'admin' : 'owner';
  if (!members.some((member) => member.user_id === userId)) await insertMember(db, { teamId, userId, role });
  return teamId;
}
