import { type HostId, type Id, newId } from '@aviary/core';
import type { Db } from '../context.ts';

export async function insertHostToken(
  db: Db,
  token: { hostId: HostId; tokenHash: string; expiresAt: Date },
): Promise<void> {
  await db
    .insertInto('host_tokens')
    .values({ id: newId('hostToken'), host_id: token.hostId, token_hash: token.tokenHash, expires_at: token.expiresAt })
    .execute();
}

/** Uses up a one-time token: of many that try, one gets the host. */
export async function consumeHostToken(db: Db, tokenHash: string, now: Date): Promise<HostId | undefined> {
  const row = await db
    .updateTable('host_tokens')
    .set({ used_at: now })
    .where('token_hash', '=', tokenHash)
    .where('used_at', 'is', null)
    .where('expires_at', '>', now)
    .returning('host_id')
    .executeTakeFirst();
  return row?.host_id;
}

export async function insertRefreshToken(
  db: Db,
  token: { hostId: HostId; tokenHash: string; expiresAt: Date },
): Promise<void> {
  await db
    .insertInto('host_refresh_tokens')
    .values({
      id: newId('refreshToken'),
      host_id: token.hostId,
      token_hash: token.tokenHash,
      expires_at: token.expiresAt,
    })
    .execute();
}

export function findRefreshToken(
  db: Db,
  tokenHash: string,
  now: Date,
): Promise<{ id: Id<'refreshToken'>; host_id: HostId } | undefined> {
  return db
    .selectFrom('host_refresh_tokens')
    .select(['id', 'host_id'])
    .where('token_hash', '=', tokenHash)
    .where('revoked_at', 'is', null)
    .where('expires_at', '>', now)
    .executeTakeFirst();
}

export async function revokeRefreshToken(db: Db, id: Id<'refreshToken'>, now: Date): Promise<void> {
  await db.updateTable('host_refresh_tokens').set({ revoked_at: now }).where('id', '=', id).execute();
}

export async function revokeRefreshTokensOf(db: Db, hostId: HostId, now: Date): Promise<void> {
  await db
    .updateTable('host_refresh_tokens')
    .set({ revoked_at: now })
    .where('host_id', '=', hostId)
    .where('revoked_at', 'is', null)
    .execute();
}
