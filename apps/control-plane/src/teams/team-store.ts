import { randomBytes } from 'node:crypto';
import { AppError, newId, platformTeamId, type TeamId, type TeamRole, type UserId } from '@aviary/core';
import { sql } from 'kysely';
import type { Db } from '../context.ts';

export interface TeamRow {
  id: TeamId;
  name: string;
  slug: string;
  created_at: Date;
}

const teamColumns = ['teams.id', 'teams.name', 'teams.slug', 'teams.created_at'] as const;

/** Random slugs are far apart: two tries that both hit one that was given do not happen. */
const slugTries = 5;

/** The team with that slug, made under that name when there is none. It may be one that was deleted. */
export async function ensureTeam(db: Db, { name, slug }: { name: string; slug: string }): Promise<TeamId> {
  await db
    .insertInto('teams')
    .values({ id: newId('team'), name, slug })
    .onConflict((conflict) => conflict.column('slug').doNothing())
    .execute();
  const { id } = await db.selectFrom('teams').select('id').where('slug', '=', slug).executeTakeFirstOrThrow();
  return id;
}

/** A new team under a slug that no team, not even one that was deleted, ever had. */
export async function insertTeam(db: Db, name: string): Promise<TeamRow> {
  for (let tries = 0; tries < slugTries; tries++) {
    const row = await db
      .insertInto('teams')
      .values({ id: newId('team'), name, slug: randomBytes(6).toString('hex') })
      .onConflict((conflict) => conflict.column('slug').doNothing())
      .returning(['id', 'name', 'slug', 'created_at'])
      .executeTakeFirst();
    if (row) return row;
  }
  throw new AppError('internal', 'no free slug was found for a team');
}

/** A team that is not deleted. */
export function findTeam(db: Db, id: TeamId): Promise<TeamRow | undefined> {
  return db
    .selectFrom('teams')
    .select(teamColumns)
    .where('id', '=', id)
    .where('deleted_at', 'is', null)
    .executeTakeFirst();
}

/** Keeps a team's members to the caller's transaction: whoever changes them takes this first. Undefined when it is deleted. */
export function lockTeam(db: Db, id: TeamId): Promise<TeamRow | undefined> {
  return db
    .selectFrom('teams')
    .select(teamColumns)
    .where('id', '=', id)
    .where('deleted_at', 'is', null)
    .forUpdate()
    .executeTakeFirst();
}

/** A user's teams with their role, by id. `after` is the last id of the page before. */
export function listTeamsOf(
  db: Db,
  { userId, limit, after }: { userId: UserId; limit: number; after?: TeamId },
): Promise<(TeamRow & { role: TeamRole })[]> {
  let query = db
    .selectFrom('team_members')
    .innerJoin('teams', 'teams.id', 'team_members.team_id')
    .select([...teamColumns, 'team_members.role'])
    .where('team_members.user_id', '=', userId)
    .where('teams.deleted_at', 'is', null);
  if (after !== undefined) query = query.where('teams.id', '>', after);
  return query.orderBy('teams.id').limit(limit).execute();
}

export async function countOwnedTeams(db: Db, userId: UserId): Promise<number> {
  const { count } = await db
    .selectFrom('team_members')
    .innerJoin('teams', 'teams.id', 'team_members.team_id')
    .select(sql<number>`count(*)`.as('count'))
    .where('team_members.user_id', '=', userId)
    .where('team_members.role', '=', 'owner')
    .where('teams.deleted_at', 'is', null)
    .executeTakeFirstOrThrow();
  return count;
}

export async function renameTeamRow(db: Db, id: TeamId, name: string): Promise<void> {
  await db.updateTable('teams').set({ name }).where('id', '=', id).execute();
}

/** Marks a team deleted. Undefined when there is none, or none any more; the platform's own stays. */
export function markTeamDeleted(db: Db, id: TeamId, now: Date): Promise<{ name: string } | undefined> {
  return db
    .updateTable('teams')
    .set({ deleted_at: now })
    .where('id', '=', id)
    .where('id', '<>', platformTeamId)
    .where('deleted_at', 'is', null)
    .returning('name')
    .executeTakeFirst();
}

/** Deleted teams of which something may be left, those first that wait for longest. */
export function listUnclearedTeams(db: Db, limit: number): Promise<{ id: TeamId; deleted_at: Date }[]> {
  return db
    .selectFrom('teams')
    .select(['id', sql<Date>`deleted_at`.as('deleted_at')])
    .where('deleted_at', 'is not', null)
    .where('cleared_at', 'is', null)
    .orderBy('deleted_at')
    .limit(limit)
    .execute();
}

export async function markTeamCleared(db: Db, id: TeamId, now: Date): Promise<void> {
  await db.updateTable('teams').set({ cleared_at: now }).where('id', '=', id).execute();
}
