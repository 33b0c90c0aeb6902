import { createHash } from 'node:crypto';
import { AppError, type TeamId } from '@aviary/core';
import { sql } from 'kysely';
import type { Db } from './context.ts';

/** A request that carries an Idempotency-Key. */
export interface KeyedRequest {
  teamId: TeamId;
  key: string;
  /** Of method, path and body: the same key on another request is a mistake. */
  requestHash: string;
}

export interface StoredReply {
  status: number;
  body: unknown;
}

/** How long a key answers for its request. */
const keptHours = 24;

export function hashRequest(method: string, path: string, body: unknown): string {
  return createHash('sha256')
    .update(`${method} ${path}\n${canonical(body)}`)
    .digest('hex');
}

/** JSON with sorted keys, so that the order in which a client writes its fields does not matter. */
function canonical(value: unknown): string {
  return (
    JSON.stringify(value, (_key, inner: unknown) =>
      typeof inner === 'object' && inner !== null && !Array.isArray(inner)
        ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
        : inner,
    ) ?? ''
  );
}

/**
 * Takes the key for this request: undefined means go on, a reply means it was answered before. A request that arrives
 * while the first one's transaction is open waits here for its end. Throws `idempotency_mismatch` when the key belongs to
 * another request, `conflict` while the first is still being carried out.
 */
export async function claimKey(db: Db, request: KeyedRequest): Promise<StoredReply | undefined> {
  await db
    .deleteFrom('idempotency_keys')
    .where('team_id', '=', request.teamId)
    .where('key', '=', request.key)
    .where('created_at', '<', sql<Date>`now() - make_interval(hours => ${keptHours})`)
    .execute();
  const inserted = await db
    .insertInto('idempotency_keys')
    .values({ team_id: request.teamId, key: request.key, request_hash: request.requestHash, response_status: null })
    .onConflict((conflict) => conflict.doNothing())
    .returning('key')
    .executeTakeFirst();
  if (inserted) return undefined;
  const known = await db
    .selectFrom('idempotency_keys')
    .select(['request_hash', 'response_status', 'response_body'])
    .where('team_id', '=', request.teamId)
    .where('key', '=', request.key)
    .executeTakeFirst();
  if (known && known.request_hash !== request.requestHash) {
    throw new AppError('idempotency_mismatch', 'this Idempotency-Key was used for another request; use a new key');
  }
  if (!known || known.response_status === null) {
    throw new AppError('conflict', 'the first request with this Idempotency-Key is still running; try again soon');
  }
  return { status: known.response_status, body: known.response_body };
}

/** Keeps the answer for those who ask again. */
export async function storeReply(db: Db, request: KeyedRequest, reply: StoredReply): Promise<void> {
  await db
    .updateTable('idempotency_keys')
    .set({ response_status: reply.status, response_body: JSON.stringify(reply.body ?? null) })
    .where('team_id', '=', request.teamId)
    .where('key', '=', request.key)
    .execute();
}

/** Gives the key back after a failure, so that the client may try again with it. */
export async function releaseKey(db: Db, request: KeyedRequest): Promise<void> {
  await db
    .deleteFrom('idempotency_keys')
    .where('team_id', '=', request.teamId)
    .where('key', '=', request.key)
    .where('response_status', 'is', null)
    .execute();
}
