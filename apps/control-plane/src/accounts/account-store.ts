import { newId, type TeamId, type TeamRole, type UserId } from '@aviary/core';
import type { UserStatus } from '@aviary/database';
import type { Db } from '../context.ts';

/** A person, without what proves that it is them. */
export interface Account {
  id: UserId;
  email: string;
  email_key: string;
  name: string;
  is_admin: boolean;
  status: UserStatus;
  email_verified_at: Date | null;
  created_at: Date;
}

export interface AccountWithPassword extends Account {
  password_hash: string | null;
}

const columns = ['id', 'email', 'email_key', 'name', 'is_admin', 'status', 'email_verified_at', 'created_at'] as const;

export interface NewAccount {
  email: string;
  emailKey: string;
  name: string;
  /** Null for one who signs in otherwise. */
  passwordHash: string | null;
  /** Where somebody vouches that the address is theirs. */
  emailVerifiedAt?: Date;
}

/** Undefined when the address is taken: of two that come at once, one. */
export function insertAccount(db: Db, account: NewAccount): Promise<Account | undefined> {
  return db
    .insertInto('users')
    .values({
      id: newId('user'),
      email: account.email,
      email_key: account.emailKey,
      name: account.name,
      password_hash: account.passwordHash,
      email_verified_at: account.emailVerifiedAt ?? null,
    })
    .onConflict((conflict) => conflict.column('email_key').where('status', '<>', 'deleted').doNothing())
    .returning(columns)
    .executeTakeFirst();
}

export function findAccountByEmail(db: Db, emailKey: string): Promise<AccountWithPassword | undefined> {
  return db
    .selectFrom('users')
    .select([...columns, 'password_hash'])
    .where('email_key', '=', emailKey)
    .where('status', '<>', 'deleted')
    .executeTakeFirst();
}

/** Throws when there is none: for who has just been authenticated. */
export function getAccount(db: Db, id: UserId): Promise<AccountWithPassword> {
  return db
    .selectFrom('users')
    .select([...columns, 'password_hash'])
    .where('id', '=', id)
    .executeTakeFirstOrThrow();
}

export function findAccount(db: Db, id: UserId): Promise<Account | undefined> {
  return db.selectFrom('users').select(columns).where('id', '=', id).executeTakeFirst();
}

/** Keeps others from changing the account until the transaction ends. */
export function lockAccount(db: Db, id: UserId): Promise<AccountWithPassword> {
  return db
    .selectFrom('users')
    .select([...columns, 'password_hash'])
    .where('id', '=', id)
    .forUpdate()
    .executeTakeFirstOrThrow();
}

/** Sets what is given. */
export async function updateAccount(
  db: Db,
  id: UserId,
  {
    now,
    ...change
  }: {
    name?: string;
    passwordHash?: string;
    isAdmin?: boolean;
    status?: Exclude<UserStatus, 'deleted'>;
    /** Until when what only they use is paused; null for not at all. */
    pauseUntil?: Date | null;
    now: Date;
  },
): Promise<void> {
  await db
    .updateTable('users')
    .set({
      updated_at: now,
      ...(change.name === undefined ? {} : { name: change.name }),
      ...(change.passwordHash === undefined ? {} : { password_hash: change.passwordHash }),
      ...(change.isAdmin === undefined ? {} : { is_admin: change.isAdmin }),
      ...(change.status === undefined ? {} : { status: change.status }),
      ...(change.pauseUntil === undefined ? {} : { pause_until: change.pauseUntil }),
    })
    .where('id', '=', id)
    .execute();
}

/** Notes that the account's address is known to be its owner's. */
export async function markEmailVerified(db: Db, id: UserId, now: Date): Promise<void> {
  await db.updateTable('users').set({ email_verified_at: now, updated_at: now }).where('id', '=', id).execute();
}

/** Replaces a hash by one of the same password, unless the password was changed meanwhile. */
export async function replacePasswordHash(db: Db, id: UserId, hashes: { old: string; new: string }): Promise<void> {
  await db
    .updateTable('users')
    .set({ password_hash: hashes.new })
    .where('id', '=', id)
    .where('password_hash', '=', hashes.old)
    .execute();
}

/** A team as one of its members has it. */
export interface Membership {
  teamId: TeamId;
  name: string;
  role: TeamRole;
}

/** The user's membership in `preferred`, else in the oldest team that they own, else in the oldest that they are in. */
export async function findMembership(
  db: Db,
  { userId, preferred }: { userId: UserId; preferred: TeamId | null },
): Promise<Membership | undefined> {
  const row = await db
    .selectFrom('team_members')
    .innerJoin('teams', 'teams.id', 'team_members.team_id')
    .select(['teams.id', 'teams.name', 'team_members.role'])
    .where('team_members.user_id', '=', userId)
    .where('teams.deleted_at', 'is', null)
    .orderBy(
      (order) => order('teams.id', '=', preferred),
      (order) => order.desc().nullsLast(),
    )
    .orderBy((order) => order('team_members.role', '=', 'owner'), 'desc')
    .orderBy('team_members.created_at')
    .orderBy('teams.id')
    .limit(1)
    .executeTakeFirst();
  return row && { teamId: row.id, name: row.name, role: row.role };
}
