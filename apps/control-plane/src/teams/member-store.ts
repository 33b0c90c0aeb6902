import { AppError, type TeamId, type TeamRole, type UserId } from '@aviary/core';
import { sql } from 'kysely';
import type { Db } from '../context.ts';

export interface MemberRow {
  user_id: UserId;
  email: string;
  name: string;
  role: TeamRole;
  created_at: Date;
}

const membersOf = (db: Db, teamId: TeamId) =>
  db
    .selectFrom('team_members')
    .innerJoin('users', 'users.id', 'team_members.user_id')
    .select(['users.id as user_id', 'users.email', 'users.name', 'team_members.role', 'team_members.created_at'])
    .where('team_members.team_id', '=', teamId);

/** A team's members by id. `after` is the last id of the page before. */
export function listMembers(
  db: Db,
  { teamId, limit, after }: { teamId: TeamId; limit: number; after?: UserId },
): Promise<MemberRow[]> {
  let query = membersOf(db, teamId);
  if (after !== undefined) query = query.where('users.id', '>', after);
  return query.orderBy('users.id').limit(limit).execute();
}

export function findMember(db: Db, teamId: TeamId, userId: UserId): Promise<MemberRow | undefined> {
  return membersOf(db, teamId).where('users.id', '=', userId).executeTakeFirst();
}

/** Puts somebody in whose account nobody closes meanwhile. Throws `conflict` when it is closed. */
export async function insertMember(
  db: Db,
  { teamId, userId, role }: { teamId: TeamId; userId: UserId; role: TeamRole },
): Promise<void> {
  const row = await db
    .insertInto('team_members')
    .columns(['team_id', 'user_id', 'role'])
    .expression(
      db
        .selectFrom('users')
        .select([sql<TeamId>`${teamId}::uuid`.as('team_id'), 'users.id', sql<TeamRole>`${role}::text`.as('role')])
        .where('users.id', '=', userId)
        .where('users.status', '=', 'active')
        .forShare(),
    )
    .returning('user_id')
    .executeTakeFirst();
  if (!row) throw new AppError('conflict', 'the account was closed meanwhile');
}

export async function setMemberRole(
  db: Db,
  { teamId, userId, role }: { teamId: TeamId; userId: UserId; role: TeamRole },
): Promise<void> {
  await db
    .updateTable('team_members')
    .set({ role })
    .where('team_id', '=', teamId)
    .where('user_id', '=', userId)
    .execute();
}

/** Takes one member out, or all. */
export async function deleteMembers(db: Db, teamId: TeamId, userId?: UserId): Promise<void> {
  let query = db.deleteFrom('team_members').where('team_id', '=', teamId);
  if (userId !== undefined) query = query.where('user_id', '=', userId);
  await query.execute();
}

/** Somebody with an account who can be made a member: active, and the address known to be theirs. */
export function findVerifiedUser(db: Db, emailKey: string): Promise<{ id: UserId; email: string } | undefined> {
  return db
    .selectFrom('users')
    .select(['id', 'email'])
    .where('email_key', '=', emailKey)
    .where('status', '=', 'active')
    .where('email_verified_at', 'is not', null)
    .executeTakeFirst();
}

/** Whether somebody with that address is in the team already. */
export async function isMemberByEmail(db: Db, teamId: TeamId, emailKey: string): Promise<boolean> {
  const row = await membersOf(db, teamId).where('users.email_key', '=', emailKey).executeTakeFirst();
  return row !== undefined;
}

/** People in one of the user's teams whose address begins so, the user left out. */
export function searchTeamMates(
  db: Db,
  { userId, emailPrefix, limit }: { userId: UserId; emailPrefix: string; limit: number },
): Promise<{ id: UserId; email: string }[]> {
  return (
    db
      .selectFrom('users')
      .select(['users.id', 'users.email'])
      .where('users.status', '=', 'active')
      .where('users.id', '<>', userId)
      // As it is written, and as it is compared by: the two differ in domains that are not ASCII.
      .where(
        sql<boolean>`(starts_with(users.email_key, ${emailPrefix}) OR starts_with(lower(users.email), ${emailPrefix}))`,
      )
      .where('users.id', 'in', (mates) =>
        mates
          .selectFrom('team_members as theirs')
          .innerJoin('team_members as mine', 'mine.team_id', 'theirs.team_id')
          .innerJoin('teams', 'teams.id', 'mine.team_id')
          .select('theirs.user_id')
          .where('mine.user_id', '=', userId)
          .where('teams.deleted_at', 'is', null),
      )
      .orderBy('users.email_key')
      .limit(limit)
      .execute()
  );
}
