import { newId, type PasskeyId, type UserId } from '@aviary/core';
import type { Db } from '../context.ts';

export interface Passkey {
  id: PasskeyId;
  name: string;
  is_synced: boolean;
  created_at: Date;
  last_used_at: Date | null;
}

/** What is needed to check what the authenticator signs. */
export interface StoredCredential {
  id: PasskeyId;
  user_id: UserId;
  public_key: string;
  counter: number;
}

export interface NewPasskey {
  userId: UserId;
  name: string;
  credentialId: string;
  publicKey: string;
  counter: number;
  transports: readonly string[];
  isSynced: boolean;
  now: Date;
}

const columns = ['id', 'name', 'is_synced', 'created_at', 'last_used_at'] as const;

/** Undefined when there is one with this credential already. */
export function insertPasskey(db: Db, passkey: NewPasskey): Promise<Passkey | undefined> {
  return db
    .insertInto('passkeys')
    .values({
      id: newId('passkey'),
      user_id: passkey.userId,
      name: passkey.name,
      credential_id: passkey.credentialId,
      public_key: passkey.publicKey,
      counter: passkey.counter,
      transports: JSON.stringify(passkey.transports),
      is_synced: passkey.isSynced,
      created_at: passkey.now,
    })
    .onConflict((conflict) => conflict.column('credential_id').doNothing())
    .returning(columns)
    .executeTakeFirst();
}

/** The passkeys of a user, newest first. */
export function listPasskeys(db: Db, userId: UserId, { limit }: { limit: number }): Promise<Passkey[]> {
  return db
    .selectFrom('passkeys')
    .select(columns)
    .where('user_id', '=', userId)
    .orderBy('id', 'desc')
    .limit(limit)
    .execute();
}

/** By what authenticators know the passkeys of a user. */
export function listCredentials(
  db: Db,
  userId: UserId,
  { limit }: { limit: number },
): Promise<{ credential_id: string; transports: string[] }[]> {
  return db
    .selectFrom('passkeys')
    .select(['credential_id', 'transports'])
    .where('user_id', '=', userId)
    .orderBy('id', 'desc')
    .limit(limit)
    .execute();
}

export function findCredential(db: Db, credentialId: string): Promise<StoredCredential | undefined> {
  return db
    .selectFrom('passkeys')
    .select(['id', 'user_id', 'public_key', 'counter'])
    .where('credential_id', '=', credentialId)
    .executeTakeFirst();
}

/** Notes a use. */
export async function touchPasskey(
  db: Db,
  { id, counter, isSynced, now }: { id: PasskeyId; counter: number; isSynced: boolean; now: Date },
): Promise<void> {
  await db
    .updateTable('passkeys')
    .set({ counter, is_synced: isSynced, last_used_at: now })
    .where('id', '=', id)
    .execute();
}

/** Undefined when the user has no such passkey. */
export function renamePasskey(
  db: Db,
  { userId, id, name }: { userId: UserId; id: PasskeyId; name: string },
): Promise<Passkey | undefined> {
  return db
    .updateTable('passkeys')
    .set({ name })
    .where('id', '=', id)
    .where('user_id', '=', userId)
    .returning(columns)
    .executeTakeFirst();
}

/** Undefined when the user has no such passkey. */
export function deletePasskey(
  db: Db,
  { userId, id }: { userId: UserId; id: PasskeyId },
): Promise<{ name: string } | undefined> {
  return db
    .deleteFrom('passkeys')
    .where('id', '=', id)
    .where('user_id', '=', userId)
    .returning('name')
    .executeTakeFirst();
}
