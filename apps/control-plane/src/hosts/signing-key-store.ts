import type { JWK } from 'jose';
import { sql } from 'kysely';
import type { Db } from '../context.ts';

export interface StoredKey {
  id: string;
  publicJwk: JWK;
  privateJwk: JWK;
}

/** The key that is used: the oldest, when there were ever more. */
export async function findOldestKey(db: Db): Promise<StoredKey | undefined> {
  const row = await db
    .selectFrom('signing_keys')
    .select(['id', 'public_jwk', 'private_jwk'])
    .orderBy('id')
    .limit(1)
    .executeTakeFirst();
  return row && { id: row.id, publicJwk: row.public_jwk, privateJwk: row.private_jwk };
}

/** Keeps the key unless another replica was first; resolves with the one that is kept. */
export function insertFirstKey(db: Db, key: StoredKey): Promise<StoredKey> {
  return db.transaction().execute(async (transaction) => {
    await sql`SELECT pg_advisory_xact_lock(hashtext('aviary:signing-key'))`.execute(transaction);
    const known = await findOldestKey(transaction);
    if (known) return known;
    await transaction
      .insertInto('signing_keys')
      .values({ id: key.id, public_jwk: JSON.stringify(key.publicJwk), private_jwk: JSON.stringify(key.privateJwk) })
      .execute();
    return key;
  });
}
