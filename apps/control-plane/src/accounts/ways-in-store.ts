import { AppError, type PasskeyId, type UserId } from '@aviary/core';
import { sql } from 'kysely';
import type { Db } from '../context.ts';

/**
 * Counts the ways in which somebody can sign in: whatever opens a session by itself. The one place where they are counted.
 * `issuers` are those where people can sign in now: an identity at a provider that was taken out of the configuration opens nothing.
 */
async function countWaysIn(
  db: Db,
  { userId, issuers }: { userId: UserId; issuers: readonly string[] },
): Promise<number> {
  const { passwords, identities, passkeys } = await db
    .selectFrom('users')
    .select((from) => [
      sql<number>`count(users.password_hash)`.as('passwords'),
      from
        .selectFrom('identities')
        .select(sql<number>`count(*)`.as('count'))
        .where('identities.user_id', '=', userId)
        .where('identities.issuer', 'in', issuers.length > 0 ? [...issuers] : [''])
        .as('identities'),
      from
        .selectFrom('passkeys')
        .select(sql<number>`count(*)`.as('count'))
        .where('passkeys.user_id', '=', userId)
        .as('passkeys'),
    ])
    .where('users.id', '=', userId)
    .executeTakeFirstOrThrow();
  return Number(passwords) + Number(identities ?? 0) + Number(passkeys ?? 0);
}

/**
 * For after a way in was taken away, in the same transaction and under the lock of the account. Throws `invalid_state`, which undoes it, when it was
 * the last one.
 */
export async function requireWayIn(
  db: Db,
  { userId, issuers }: { userId: UserId; issuers: readonly string[] },
): Promise<void> {
  if ((await countWaysIn(db, { userId, issuers })) > 0) return;
  throw new AppError(
    'invalid_state',
    'this is the last way in which you can sign in; set a password, or add another way, before you remove it',
  );
}

/** What opens a session beside the password. */
export interface OtherWaysIn {
  identities: { issuer: string }[];
  passkeys: { id: PasskeyId; name: string }[];
}

/** Takes away what opens a session beside the password, and tells what it was: for an account that may have been made by another than its owner. */
export async function deleteOtherWaysIn(db: Db, userId: UserId): Promise<OtherWaysIn> {
  return {
    identities: await db.deleteFrom('identities').where('user_id', '=', userId).returning('issuer').execute(),
    passkeys: await db.deleteFrom('passkeys').where('user_id', '=', userId).returning(['id', 'name']).execute(),
  };
}
