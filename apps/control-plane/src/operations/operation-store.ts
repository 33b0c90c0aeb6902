import type { AppError, OperationId } from '@aviary/core';
import { sql } from 'kysely';
import type { Db } from '../context.ts';
import type { Operation, OperationKind, OperationPayloads } from './operation.ts';

const columns = ['id', 'team_id', 'sandbox_id', 'kind', 'payload', 'created_at'] as const;

interface Lease {
  owner: string;
  ttlMs: number;
}

const leaseEnd = (ttlMs: number) => sql<Date>`now() + make_interval(secs => ${ttlMs / 1000})`;

/** Writes an operation that the caller's replica starts as soon as its transaction is committed. */
export async function insertOperation<K extends OperationKind>(
  db: Db,
  operation: Omit<Operation<K>, 'createdAt'>,
  { owner, ttlMs }: Lease,
): Promise<Operation<K>> {
  const row = await db
    .insertInto('operations')
    .values({
      id: operation.id,
      team_id: operation.teamId,
      sandbox_id: operation.sandboxId,
      kind: operation.kind,
      payload: JSON.stringify(operation.payload),
      state: 'running',
      lease_owner: owner,
      lease_until: leaseEnd(ttlMs),
    })
    .returning('created_at')
    .executeTakeFirstOrThrow();
  return { ...operation, createdAt: row.created_at };
}

/** Takes over operations whose replica no longer renews its lease. Replicas that ask together get different ones. */
export async function claimExpired(db: Db, { owner, ttlMs }: Lease, limit: number): Promise<Operation[]> {
  const rows = await db
    .updateTable('operations')
    .set({ lease_owner: owner, lease_until: leaseEnd(ttlMs), attempts: sql<number>`attempts + 1` })
    .where('id', 'in', (expired) =>
      expired
        .selectFrom('operations')
        .select('id')
        .where('state', '=', 'running')
        .where('lease_until', '<', sql<Date>`now()`)
        .orderBy('lease_until')
        .limit(limit)
        .forUpdate()
        .skipLocked(),
    )
    .returning(columns)
    .execute();
  return rows.map((row) => ({
    id: row.id,
    teamId: row.team_id,
    sandboxId: row.sandbox_id,
    kind: row.kind as OperationKind,
    payload: row.payload as OperationPayloads[OperationKind],
    createdAt: row.created_at,
  }));
}

/** Renews the leases that `owner` still has; resolves with the ids that it keeps. */
export async function renewLeases(db: Db, { owner, ttlMs }: Lease, ids: OperationId[]): Promise<OperationId[]> {
  const rows = await db
    .updateTable('operations')
    .set({ lease_until: leaseEnd(ttlMs) })
    .where('id', 'in', ids)
    .where('lease_owner', '=', owner)
    .where('state', '=', 'running')
    .returning('id')
    .execute();
  return rows.map((row) => row.id);
}

/** Lets others have what `owner` was at, at once: for a replica that stops. Without an owner, what anybody was at. */
export async function releaseLeases(db: Db, owner?: string): Promise<void> {
  let query = db
    .updateTable('operations')
    .set({ lease_until: sql<Date>`now() - interval '1 second'` })
    .where('state', '=', 'running');
  if (owner !== undefined) query = query.where('lease_owner', '=', owner);
  await query.execute();
}

/** Ends an operation. False when `owner` has lost it: its outcome must not be written then. The payload is emptied, as it may hold secrets. */
export async function finishOperation(
  db: Db,
  { id, owner, error }: { id: OperationId; owner: string; error?: Pick<AppError, 'code' | 'message' | 'details'> },
): Promise<boolean> {
  const row = await db
    .updateTable('operations')
    .set({
      state: error ? 'failed' : 'succeeded',
      error: error ? JSON.stringify(error) : null,
      payload: '{}',
      finished_at: sql<Date>`now()`,
    })
    .where('id', '=', id)
    .where('state', '=', 'running')
    .where('lease_owner', '=', owner)
    .returning('id')
    .executeTakeFirst();
  return row !== undefined;
}
