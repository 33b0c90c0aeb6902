import { AppError, type ErrorCode, type OperationId, type SandboxId, type TeamId } from '@aviary/core';
import type { OperationTable } from '@aviary/database';
import { type Selectable, sql } from 'kysely';
import type { Db } from '../context.ts';
import type { Settlement, StoredOperation, Subject } from './operation.ts';
import type { Phase } from './phase-log.ts';

/** Told in the transaction that ends an operation, with its id: who waits for it looks then. */
export const settledChannel = 'aviary_operation_settled';

const storedColumns = [
  'id',
  'team_id',
  'sandbox_id',
  'subject_type',
  'subject_id',
  'kind',
  'payload',
  'request_id',
  'attempts',
  'created_at',
] as const satisfies (keyof OperationTable)[];

/** What users may know of an operation: all but what it keeps to be carried out. */
const shownColumns = [
  'id',
  'sandbox_id',
  'subject_type',
  'subject_id',
  'kind',
  'state',
  'error',
  'result',
  'phases',
  'request_id',
  'attempts',
  'created_at',
  'finished_at',
] as const satisfies (keyof OperationTable)[];

export type OperationRow = Pick<Selectable<OperationTable>, (typeof shownColumns)[number]>;

export interface Lease {
  owner: string;
  ttlMs: number;
}

const leaseEnd = (ttlMs: number) => sql<Date>`now() + make_interval(secs => ${ttlMs / 1000})`;

/** Writes an operation that the owner of the lease carries out as soon as the transaction is kept. */
export async function insertOperation(
  db: Db,
  operation: Omit<StoredOperation, 'createdAt' | 'attempt'> & { phases?: readonly Phase[] },
  { owner, ttlMs }: Lease,
): Promise<StoredOperation> {
  const { phases = [], ...stored } = operation;
  const row = await db
    .insertInto('operations')
    .values({
      id: operation.id,
      team_id: operation.teamId,
      sandbox_id: operation.sandboxId,
      subject_type: operation.subject.type,
      subject_id: operation.subject.id,
      kind: operation.kind,
      payload: JSON.stringify(operation.payload),
      request_id: operation.requestId,
      phases: JSON.stringify(phases),
      state: 'running',
      lease_owner: owner,
      lease_until: leaseEnd(ttlMs),
    })
    .returning('created_at')
    .executeTakeFirstOrThrow();
  return { ...stored, attempt: 1, createdAt: row.created_at };
}

/**
 * Takes over operations of the given kinds whose replica no longer renews its lease; a kind that this version does not know
 * is left to one that does. Replicas that ask together get different ones.
 */
export async function claimExpired(
  db: Db,
  { owner, ttlMs }: Lease,
  { kinds, limit }: { kinds: readonly string[]; limit: number },
): Promise<StoredOperation[]> {
  if (kinds.length === 0) return [];
  const rows = await db
    .updateTable('operations')
    .set({ lease_owner: owner, lease_until: leaseEnd(ttlMs), attempts: sql<number>`attempts + 1` })
    .where('id', 'in', (expired) =>
      expired
        .selectFrom('operations')
        .select('id')
        .where('state', '=', 'running')
        .where('kind', 'in', kinds)
        .where('lease_until', '<', sql<Date>`now()`)
        .orderBy('lease_until')
        .limit(limit)
        .forUpdate()
        .skipLocked(),
    )
    .returning(storedColumns)
    .execute();
  return rows.map((row) => ({
    id: row.id,
    teamId: row.team_id,
    sandboxId: row.sandbox_id,
    subject: { type: row.subject_type, id: row.subject_id } as Subject,
    kind: row.kind,
    payload: row.payload,
    requestId: row.request_id,
    attempt: row.attempts,
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

/** Holds a running operation against others until the transaction ends. False when `owner` has lost it. */
export async function holdOperation(db: Db, { id, owner }: { id: OperationId; owner: string }): Promise<boolean> {
  const row = await db
    .selectFrom('operations')
    .select('id')
    .where('id', '=', id)
    .where('state', '=', 'running')
    .where('lease_owner', '=', owner)
    .forUpdate()
    .executeTakeFirst();
  return row !== undefined;
}

/** Ends an operation and tells who waits for it. The payload is emptied, as it may hold secrets. */
export async function finishOperation(
  db: Db,
  id: OperationId,
  { settlement, phases }: { settlement: Settlement; phases: readonly Phase[] },
): Promise<void> {
  const error = settlement.state === 'succeeded' ? undefined : settlement.error;
  await db
    .updateTable('operations')
    .set({
      state: settlement.state,
      error: error ? JSON.stringify({ code: error.code, message: error.message, details: error.details }) : null,
      result: settlement.state === 'succeeded' ? JSON.stringify(settlement.result) : null,
      phases: JSON.stringify(phases),
      payload: '{}',
      finished_at: sql<Date>`now()`,
    })
    .where('id', '=', id)
    .execute();
  await sql`SELECT pg_notify(${settledChannel}, ${id})`.execute(db);
}

/** The team's operation. Another team's is undefined, as if it did not exist. */
export function findOperation(db: Db, teamId: TeamId, id: OperationId): Promise<OperationRow | undefined> {
  return db
    .selectFrom('operations')
    .select(shownColumns)
    .where('id', '=', id)
    .where('team_id', '=', teamId)
    .executeTakeFirst();
}

/** Newest first: what was done with a sandbox. `after` is the last id of the page before. */
export function listSandboxOperations(
  db: Db,
  { sandboxId, limit, after }: { sandboxId: SandboxId; limit: number; after?: OperationId },
): Promise<OperationRow[]> {
  let query = db.selectFrom('operations').select(shownColumns).where('sandbox_id', '=', sandboxId);
  if (after !== undefined) query = query.where('id', '<', after);
  return query.orderBy('id', 'desc').limit(limit).execute();
}

/** The operation of that kind that is under way on a sandbox. */
export async function findRunningOperation(
  db: Db,
  { sandboxId, kind }: { sandboxId: SandboxId; kind: string },
): Promise<OperationId | undefined> {
  const row = await db
    .selectFrom('operations')
    .select('id')
    .where('sandbox_id', '=', sandboxId)
    .where('kind', '=', kind)
    .where('state', '=', 'running')
    .orderBy('id', 'desc')
    .limit(1)
    .executeTakeFirst();
  return row?.id;
}

/** Forgets operations that ended before `keptDays` ago. */
export async function deleteOldOperations(db: Db, keptDays: number): Promise<void> {
  await db
    .deleteFrom('operations')
    .where('state', '<>', 'running')
    .where('finished_at', '<', sql<Date>`now() - make_interval(days => ${keptDays})`)
    .execute();
}

/** Why an operation did not come about, as its command answers it. */
export function operationError({ error }: Pick<OperationRow, 'error'>): AppError {
  // The column is written by finishOperation alone, from an AppError.
  return error
    ? new AppError(error.code as ErrorCode, error.message, { details: error.details ?? {} })
    : new AppError('internal', 'the operation ended without an outcome');
}
