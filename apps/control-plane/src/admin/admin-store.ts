import { platformTeamId, type SandboxId, type TeamId, type UserId } from '@aviary/core';
import type { UserStatus } from '@aviary/database';
import { sql } from 'kysely';
import type { Db } from '../context.ts';

export interface Page<K> {
  limit: number;
  search?: string | undefined;
  before?: K;
}

/** People with how many teams they are in, newest first. */
export function listUsers(db: Db, { limit, search, before }: Page<UserId>) {
  const teams = (role: 'owner' | null) =>
    sql<number>`(SELECT count(*) FROM team_members m JOIN teams t ON t.id = m.team_id
      WHERE m.user_id = users.id AND t.deleted_at IS NULL AND (${role}::text IS NULL OR m.role = ${role}))`;
  let query = db
    .selectFrom('users')
    .select(['id', 'email', 'name', 'is_admin', 'status', 'created_at'])
    .select(sql<boolean>`email_verified_at IS NOT NULL`.as('email_verified'))
    .select([teams(null).as('teams_joined'), teams('owner').as('teams_owned')]);
  if (search !== undefined) {
    const part = search.toLowerCase();
    query = query.where(sql<boolean>`(strpos(email_key, ${part}) > 0 OR strpos(lower(name), ${part}) > 0)`);
  }
  if (before !== undefined) query = query.where('id', '<', before);
  return query.orderBy('id', 'desc').limit(limit).execute();
}

/** Teams, also deleted ones, without the platform's own, newest first. */
export function listTeams(db: Db, { limit, search, before }: Page<TeamId>) {
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
  if (before !== undefined) query = query.where('id', '<', before);
  return query.orderBy('id', 'desc').limit(limit).execute();
}

/** The active administrators, kept to the caller's transaction: so that of two changes at once the second sees the first. */
export async function lockAdmins(db: Db): Promise<UserId[]> {
  const rows = await db
    .selectFrom('users')
    .select('id')
    .where('is_admin', '=', true)
    .where('status', '=', 'active')
    .orderBy('id')
    .forUpdate()
    .execute();
  return rows.map(({ id }) => id);
}

export function lockUser(
  db: Db,
  id: UserId,
): Promise<{ email: string; status: UserStatus; is_admin: boolean } | undefined> {
  return db
    .selectFrom('users')
    .select(['email', 'status', 'is_admin'])
    .where('id', '=', id)
    .where('status', '<>', 'deleted')
    .forUpdate()
    .executeTakeFirst();
}

export async function updateUser(
  db: Db,
  id: UserId,
  changes: { status?: 'active' | 'deactivated'; is_admin?: boolean },
): Promise<void> {
  await db
    .updateTable('users')
    .set({ ...changes, updated_at: sql<Date>`now()` })
    .where('id', '=', id)
    .execute();
}

/** Running sandboxes of teams that have this user alone. */
export function listRunningOfOnlyMember(db: Db, userId: UserId): Promise<{ id: SandboxId; team_id: TeamId }[]> {
  return db
    .selectFrom('sandboxes')
    .select(['id', 'team_id'])
    .where('status', '=', 'running')
    .where(
      'team_id',
      'in',
      sql<TeamId>`(SELECT team_id FROM team_members GROUP BY team_id HAVING count(*) = 1 AND bool_and(user_id = ${userId}))`,
    )
    .limit(1_000)
    .execute();
}
