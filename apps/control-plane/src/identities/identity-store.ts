import { type IdentityId, newId, type UserId } from '@aviary/core';
import { sql } from 'kysely';
import type { Db } from '../context.ts';

/** What somebody is at a server that vouches for people. */
export interface IdentityKey {
  issuer: string;
  subject: string;
}

/** One sign-in of an identity at a time, until the transaction ends. */
export async function lockIdentity(db: Db, { issuer, subject }: IdentityKey): Promise<void> {
  await sql`SELECT pg_advisory_xact_lock(hashtext('aviary:identity'), hashtext(${`${issuer} ${subject}`}))`.execute(db);
}

/** Whose the identity is; undefined also when that account is deleted. */
export async function findIdentityUser(db: Db, { issuer, subject }: IdentityKey): Promise<UserId | undefined> {
  const row = await db
    .selectFrom('identities')
    .innerJoin('users', 'users.id', 'identities.user_id')
    .select('identities.user_id')
    .where('identities.issuer', '=', issuer)
    .where('identities.subject', '=', subject)
    .where('users.status', '<>', 'deleted')
    .executeTakeFirst();
  return row?.user_id;
}

/** Gives an identity to a user; one that a deleted account still has changes over. Only under {@link lockIdentity}, for one that nobody has. */
export async function insertIdentity(
  db: Db,
  identity: IdentityKey & { userId: UserId; email: string | null; now: Date },
): Promise<IdentityId> {
  const { issuer, subject, userId, email, now } = identity;
  const fresh = { id: newId('identity'), user_id: userId, email, created_at: now, last_used_at: now };
  await db
    .insertInto('identities')
    .values({ ...fresh, issuer, subject })
    .onConflict((conflict) => conflict.columns(['issuer', 'subject']).doUpdateSet(fresh))
    .execute();
  return fresh.id;
}

export async function touchIdentity(
  db: Db,
  { issuer, subject }: IdentityKey,
  { email, now }: { email: string | null; now: Date },
): Promise<void> {
  await db
    .updateTable('identities')
    .set({ email, last_used_at: now })
    .where('issuer', '=', issuer)
    .where('subject', '=', subject)
    .execute();
}

export interface ListedIdentity {
  id: IdentityId;
  issuer: string;
  email: string | null;
  created_at: Date;
  last_used_at: Date;
}

/** Of one user, oldest first. */
export function listIdentities(db: Db, userId: UserId, limit: number): Promise<ListedIdentity[]> {
  return db
    .selectFrom('identities')
    .select(['id', 'issuer', 'email', 'created_at', 'last_used_at'])
    .where('user_id', '=', userId)
    .orderBy('created_at')
    .orderBy('id')
    .limit(limit)
    .execute();
}

/** The issuer of what was deleted; undefined when the user has no such identity. */
export async function deleteIdentity(db: Db, userId: UserId, id: IdentityId): Promise<string | undefined> {
  const row = await db
    .deleteFrom('identities')
    .where('id', '=', id)
    .where('user_id', '=', userId)
    .returning('issuer')
    .executeTakeFirst();
  return row?.issuer;
}
