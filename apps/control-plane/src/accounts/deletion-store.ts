import type { SessionId, TeamId, TeamRole, UserId } from '@aviary/core';
import type { UserStatus } from '@aviary/database';
import { sql } from 'kysely';
import type { Db } from '../context.ts';

/**
 * The active administrators, of whom none becomes fewer until the transaction ends: of two changes at once the second sees the first. Their
 * rows are not locked: other transactions take those after a team's.
 */
export async function lockAdmins(db: Db): Promise<UserId[]> {
  await sql`SELECT pg_advisory_xact_lock(hashtext('aviary:admins'))`.execute(db);
  const rows = await db
    .selectFrom('users')
    .select('id')
    .where('is_admin', '=', true)
    .where('status', '=', 'active')
    .execute();
  return rows.map(({ id }) => id);
}

/** Somebody who is not deleted, kept to the caller's transaction: nobody opens a session for them, or takes them into a team, meanwhile. */
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

export interface HeldMembership {
  teamId: TeamId;
  name: string;
  role: TeamRole;
  /** With the user themselves. */
  members: number;
}

/** The teams that the user is in, whose members nobody else changes until the transaction ends. The user must be locked before. */
export async function holdMemberships(db: Db, userId: UserId): Promise<HeldMembership[]> {
  const inTeams = db.selectFrom('team_members').select('team_id').where('user_id', '=', userId);
  const teams = await db
    .selectFrom('teams')
    .select('id')
    .where('id', 'in', inTeams)
    .where('deleted_at', 'is', null)
    .orderBy('id')
    .forUpdate()
    .execute();
  if (teams.length === 0) return [];
  // Read once they are held: somebody may have been at it until then.
  const rows = await db
    .selectFrom('team_members')
    .innerJoin('teams', 'teams.id', 'team_members.team_id')
    .select(['teams.id', 'teams.name', 'team_members.role'])
    .select(sql<number>`(SELECT count(*) FROM team_members m WHERE m.team_id = teams.id)`.as('members'))
    .where('team_members.user_id', '=', userId)
    .where(
      'teams.id',
      'in',
      teams.map(({ id }) => id),
    )
    .orderBy('teams.id')
    .execute();
  return rows.map(({ id, ...row }) => ({ ...row, teamId: id }));
}

/** Closes an account. Its row stays, for it to be restored, with what proves that it is its owner's; links that were sent are void. */
export async function markAccountDeleted(db: Db, id: UserId, now: Date): Promise<void> {
  await db
    .updateTable('users')
    .set({ status: 'deleted', deleted_at: now, updated_at: now, is_admin: false, pause_until: null })
    .where('id', '=', id)
    .execute();
  await db.deleteFrom('one_time_tokens').where('user_id', '=', id).execute();
}

/** When the log-in was that a session began with. */
export async function findLogInTime(db: Db, sessionId: SessionId): Promise<Date | undefined> {
  const row = await db.selectFrom('sessions').select('created_at').where('id', '=', sessionId).executeTakeFirst();
  return row?.created_at;
}

export interface DeletedAccount {
  id: UserId;
  email: string;
  email_key: string;
  name: string;
  deleted_at: Date;
}

/** A deleted account that is not purged, kept to the caller's transaction; undefined when there is none, or another replica has it. */
export async function lockDeletedAccount(db: Db, id: UserId): Promise<DeletedAccount | undefined> {
  const row = await db
    .selectFrom('users')
    .select(['id', 'email', 'email_key', 'name', sql<Date>`deleted_at`.as('deleted_at')])
    .where('id', '=', id)
    .where('status', '=', 'deleted')
    .forUpdate()
    .skipLocked()
    .executeTakeFirst();
  return row;
}

/** Opens a deleted account again. False when its address is another's by now. */
export async function markAccountRestored(db: Db, { id, email_key }: DeletedAccount, now: Date): Promise<boolean> {
  const row = await db
    .updateTable('users')
    .set({ status: 'active', deleted_at: null, updated_at: now })
    .where('id', '=', id)
    .where(({ not, exists, selectFrom }) =>
      not(
        exists(
          selectFrom('users as others')
            .select('others.id')
            .where('others.email_key', '=', email_key)
            .where('others.status', '<>', 'deleted'),
        ),
      ),
    )
    .returning('id')
    .executeTakeFirst();
  return row !== undefined;
}

/** Accounts that were deleted before `before`, those first that wait for longest. */
export async function listAccountsDeletedBefore(db: Db, before: Date, limit: number): Promise<UserId[]> {
  const rows = await db
    .selectFrom('users')
    .select('id')
    .where('status', '=', 'deleted')
    .where('deleted_at', '<=', before)
    .orderBy('deleted_at')
    .limit(limit)
    .execute();
  return rows.map(({ id }) => id);
}

/** Removes an account for good: all that is the person's goes with it, and what others have loses its maker. */
export async function deleteAccountRow(db: Db, { id, email_key, deleted_at }: DeletedAccount): Promise<void> {
  await db
    .deleteFrom('team_invitations')
    .where('email_key', '=', email_key)
    .where('created_at', '<=', deleted_at)
    .where((where) =>
      where.or([
        where('accepted_at', 'is not', null),
        where('revoked_at', 'is not', null),
        where('expires_at', '<=', sql<Date>`now()`),
      ]),
    )
    .execute();
  await db.deleteFrom('users').where('id', '=', id).execute();
}
