import { createHash } from 'node:crypto';
import { AppError, type OperationId, type TeamId } from '@aviary/core';
import { sql } from 'kysely';
import type { Db } from '../context.ts';

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
  /** The operation that the request started; null when it was done by the time of its answer. */
  operationId: OperationId | null;
}

/** Whose claim it is while the work is under way, and until when without a renewal. */
export interface KeyLease {
  owner: string;
  ttlMs: number;
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
 * while the first one's transaction is open waits here for its end. Without a lease the claim must be answered in the
 * transaction that it is made in. Throws `idempotency_mismatch` when the key belongs to another request, `conflict` while the
 * first is still being carried out; one whose replica has gone is carried out anew.
 */
export async function claimKey(db: Db, request: KeyedRequest, lease?: KeyLease): Promise<StoredReply | undefined> {
  await deleteExpired(db, request);
  const inserted = await db
    .insertInto('idempotency_keys')
    .values({
      team_id: request.teamId,
      key: request.key,
      request_hash: request.requestHash,
      response_status: null,
      ...(lease ? leaseColumns(lease) : {}),
    })
    .onConflict((conflict) => conflict.doNothing())
    .returning('key')
    .executeTakeFirst();
  if (inserted) return undefined;
  const known = await findKey(db, request);
  if (known && known.request_hash !== request.requestHash) {
    throw new AppError('idempotency_mismatch', 'this Idempotency-Key was used for another request; use a new key');
  }
  if (known?.isTooLarge) {
    throw new AppError('conflict', 'this request was carried out, and its answer was too large to be kept for repeats');
  }
  if (known && known.response_status !== null) {
    const body = readBody(known.response_body);
    return { status: known.response_status, body, operationId: known.operation_id };
  }
  if (lease && known && (await takeOverKey(db, request, lease))) return undefined;
  throw new AppError('conflict', 'the first request with this Idempotency-Key is still running; try again soon');
}

function findKey(db: Db, { teamId, key }: KeyedRequest) {
  return db
    .selectFrom('idempotency_keys')
    .select(['request_hash', 'response_status', 'response_body', 'operation_id'])
    .select(sql<boolean>`response_status IS NOT NULL AND response_body IS NULL`.as('isTooLarge'))
    .where('team_id', '=', teamId)
    .where('key', '=', key)
    .executeTakeFirst();
}

async function deleteExpired(db: Db, { teamId, key }: KeyedRequest): Promise<void> {
  await db
    .deleteFrom('idempotency_keys')
    .where('team_id', '=', teamId)
    .where('key', '=', key)
    .where('created_at', '<', sql<Date>`now() - make_interval(hours => ${keptHours})`)
    .execute();
}

const leaseColumns = ({ owner, ttlMs }: KeyLease) => ({
  lease_owner: owner,
  lease_until: sql<Date>`now() + make_interval(secs => ${ttlMs / 1000})`,
});

/** Takes a claim whose replica no longer renews it. Of many that try, one gets it. */
async function takeOverKey(db: Db, { teamId, key }: KeyedRequest, lease: KeyLease): Promise<boolean> {
  const taken = await db
    .updateTable('idempotency_keys')
    .set(leaseColumns(lease))
    .where('team_id', '=', teamId)
    .where('key', '=', key)
    .where('response_status', 'is', null)
    .where(sql<boolean>`coalesce(lease_until, created_at) < now()`)
    .returning('key')
    .executeTakeFirst();
  return taken !== undefined;
}

/** Keeps the answer for those who ask again; without `reply.body` only that there was one, for answers too large to keep. */
export async function storeReply(
  db: Db,
  request: KeyedRequest,
  reply: Omit<StoredReply, 'body'> & { body?: unknown },
): Promise<void> {
  await db
    .updateTable('idempotency_keys')
    .set({
      response_status: reply.status,
      response_body: 'body' in reply ? keptBody(reply.body) : null,
      operation_id: reply.operationId,
    })
    .where('team_id', '=', request.teamId)
    .where('key', '=', request.key)
    .where('response_status', 'is', null)
    .execute();
}

/** An answer as its JSON text in a JSON string: the column's own values cannot hold all that an answer can, a NUL of a command's output above all. */
function keptBody(body: unknown): string {
  return JSON.stringify(JSON.stringify(body ?? null));
}

/** Answers that an older version kept are there as themselves: an object each. */
function readBody(kept: unknown): unknown {
  return typeof kept === 'string' ? JSON.parse(kept) : kept;
}

/** Renews the claims that `owner` still has among `keys`. */
export async function renewKeys(
  db: Db,
  lease: KeyLease,
  keys: readonly Pick<KeyedRequest, 'teamId' | 'key'>[],
): Promise<void> {
  if (keys.length === 0) return;
  await db
    .updateTable('idempotency_keys')
    .set(leaseColumns(lease))
    .where('lease_owner', '=', lease.owner)
    .where('response_status', 'is', null)
    .where(({ eb, refTuple, tuple }) =>
      eb(
        refTuple('team_id', 'key'),
        'in',
        keys.map(({ teamId, key }) => tuple(teamId, key)),
      ),
    )
    .execute();
}

/** Gives the key back after a failure, so that the client may try again with it. One that another replica has is its own. */
export async function releaseKey(db: Db, request: KeyedRequest, owner: string): Promise<void> {
  await db
    .deleteFrom('idempotency_keys')
    .where('team_id', '=', request.teamId)
    .where('key', '=', request.key)
    .where('response_status', 'is', null)
    .where('lease_owner', '=', owner)
    .execute();
}

/** Ends all claims that were not answered: for a process that has the store to itself and has just begun. */
export async function releaseAllKeys(db: Db): Promise<void> {
  await db.deleteFrom('idempotency_keys').where('response_status', 'is', null).execute();
}

/** Forgets keys that no longer answer for their request. */
export async function deleteOldKeys(db: Db): Promise<void> {
  await db
    .deleteFrom('idempotency_keys')
    .where('created_at', '<', sql<Date>`now() - make_interval(hours => ${keptHours})`)
    .execute();
}
