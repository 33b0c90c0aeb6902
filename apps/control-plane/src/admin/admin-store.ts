import { platformTeamId, type SandboxId, type SandboxStatus, type TeamId, type UserId } from '@aviary/core';
import { sql } from 'kysely';
import type { Db } from '../context.ts';

export interface Page<K> {
  limit: number;
  search?: string | undefined;
  /** The last id of the page before. */
  after?: K;
}

function usersWithTeams(db: Db) {
  const teams = (role: 'owner' | null) =>
    sql<number>`(SELECT count(*) FROM team_members m JOIN teams t ON t.id = m.team_id
      WHERE m.user_id = users.id AND t.deleted_at IS NULL AND (${role}::text IS NULL OR m.role = ${role}))`;
  return db
    .selectFrom('users')
    .select(['id', 'email', 'name', 'is_admin', 'status', 'created_at', 'deleted_at'])
    .select(sql<boolean>`email_verified_at IS NOT NULL`.as('email_verified'))
    .select([teams(null).as('teams_joined'), teams('owner').as('teams_owned')])
    .select(
      sql<boolean>`EXISTS (SELECT FROM totp_factors f WHERE f.user_id = users.id AND f.confirmed_at IS NOT NULL)`.as(
        'has_second_factor',
      ),
    );
}

export type UserRow = Awaited<ReturnType<typeof listUsers>>[number];
export type AdminTeamRow = Awaited<ReturnType<typeof listTeams>>[number];

/** Somebody who is not purged. */
export function findUser(db: Db, id: UserId) {
  return usersWithTeams(db).where('id', '=', id).executeTakeFirst();
}

/** People with how many teams they are in, newest first. */
export function listUsers(db: Db, { limit, search, after }: Page<UserId>) {
  let query = usersWithTeams(db);
  if (search !== undefined) {
    const part = search.toLowerCase();
    query = query.where(
      sql<boolean>`(strpos(email_key, ${part}) > 0 OR strpos(lower(email), ${part}) > 0 OR strpos(lower(name), ${part}) > 0)`,
    );
  }
  if (after !== undefined) query = query.where('id', '<', after);
  return query.orderBy('id', 'desc').limit(limit).execute();
}

/** Teams, also deleted ones, without the platform's own, newest first. */
export function listTeams(db: Db, { limit, search, after }: Page<TeamId>) {
  let query = db
    .selectFrom('teams')
    .select(['id', 'name', 'slug', 'created_at', 'deleted_at'])
    .select([
      sql<number>`(SELECT count(*) FROM team_members m WHERE m.team_id = teams.id)`.as('member_count'),
      sql<number>`(SELECT count(*) FROM sandboxes s WHERE s.team_id = teams.id AND s.status <> 'stopped')`.as(
        'sandbox_count',
      ),
      sql<string | null>`(SELECT u.email FROM team_members m JOIN users u ON u.id = m.user_id
        WHERE m.team_id = teams.id AND m.role = 'owner')`.as('owner_email'),
    ])
    .where('id', '<>', platformTeamId);
  if (search !== undefined) {
    const part = search.toLowerCase();
    query = query.where(
      sql<boolean>`(strpos(lower(name), ${part}) > 0 OR strpos(slug, ${part.replaceAll('-', '')}) > 0)`,
    );
  }
  if (after !== undefined) query = query.where('id', '<', after);
  return query.orderBy('id', 'desc').limit(limit).execute();
}

/** Statuses of what runs, or may run in a moment. */
const busyStatuses = ['pending', 'starting', 'running', 'pausing', 'resuming', 'missing'] as const;

/** Sandboxes that run, or may run in a moment, of teams that have this user alone. */
export function listBusyOfOnlyMember(
  db: Db,
  userId: UserId,
): Promise<{ id: SandboxId; team_id: TeamId; status: SandboxStatus }[]> {
  return db
    .selectFrom('sandboxes')
    .select(['id', 'team_id', 'status'])
    .where('status', 'in', busyStatuses)
    .where('team_id', 'in', (from) =>
      from
        .selectFrom('team_members as own')
        .select('own.team_id')
        .where('own.user_id', '=', userId)
        .where(({ not, exists, selectFrom }) =>
          not(
            exists(
              selectFrom('team_members as others')
                .select('others.user_id')
                .whereRef('others.team_id', '=', 'own.team_id')
                .where('others.user_id', '<>', userId),
            ),
          ),
        ),
    )
    .limit(1_000)
    .execute();
}

/** People who are deactivated, and of whom something may still run. */
export function listPausing(db: Db, limit: number): Promise<{ id: UserId; pause_until: Date }[]> {
  return db
    .selectFrom('users')
    .select(['id', sql<Date>`pause_until`.as('pause_until')])
    .where('pause_until', 'is not', null)
    .orderBy('pause_until')
    .limit(limit)
    .execute();
}

/** Ends what began with that `pause_until`, unless it was begun again. */
export async function endPausing(db: Db, { id, pause_until }: { id: UserId; pause_until: Date }): Promise<void> {
  await db
    .updateTable('users')
    .set({ pause_until: null })
    .where('id', '=', id)
    .where('pause_until', '=', pause_until)
    .execute();
}
