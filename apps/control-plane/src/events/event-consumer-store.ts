import { sql } from 'kysely';
import type { Db } from '../context.ts';
import type { AuthEvent, SandboxEvent } from './module-hooks.ts';

/** Where somebody is in events, which are ordered by both: by transactions, and within one by `last`. */
export interface EventPosition {
  position: number;
  last: string;
}

export interface PlacedEvent<E> extends EventPosition {
  event: E;
}

/** After all events of a transaction. */
const maxSeq = Number.MAX_SAFE_INTEGER;
const maxId = 'ffffffff-ffff-ffff-ffff-ffffffffffff';

/** Those before it are over: nothing comes before an event of theirs any more. */
const horizon = sql<number>`pg_snapshot_xmin(pg_current_snapshot())::text::bigint`;
const nextTransaction = sql<number>`pg_snapshot_xmax(pg_current_snapshot())::text::bigint`;

/** A consumer that is new begins with what happens now, and so does one whose place is of another server: of a store that was restored. */
export async function addConsumer(db: Db, name: string): Promise<void> {
  await sql`
    INSERT INTO event_consumers (name, position, last) VALUES (${name}, ${horizon} - 1, '')
    ON CONFLICT (name) DO UPDATE SET position = excluded.position, last = ''
    WHERE event_consumers.position > ${nextTransaction}`.execute(db);
}

export function readPosition(db: Db, name: string): Promise<EventPosition> {
  return db
    .selectFrom('event_consumers')
    .select(['position', 'last'])
    .where('name', '=', name)
    .executeTakeFirstOrThrow();
}

export async function savePosition(db: Db, name: string, { position, last }: EventPosition): Promise<void> {
  await db.updateTable('event_consumers').set({ position, last }).where('name', '=', name).execute();
}

/** The next events of sandboxes. */
export async function listSandboxEvents(
  db: Db,
  after: EventPosition,
  limit: number,
): Promise<PlacedEvent<SandboxEvent>[]> {
  const rows = await db
    .selectFrom('outbox_events')
    .select(['seq', 'event_id', 'team_id', 'sandbox_id', 'type', 'payload', 'created_at', 'position'])
    .where(({ eb, refTuple, tuple }) =>
      eb(refTuple('position', 'seq'), '>', tuple(after.position, after.last === '' ? maxSeq : Number(after.last))),
    )
    .where('position', '<', horizon)
    .orderBy('position')
    .orderBy('seq')
    .limit(limit)
    .execute();
  return rows.map((row) => ({
    position: row.position,
    last: String(row.seq),
    event: {
      id: row.event_id,
      type: row.type,
      teamId: row.team_id,
      sandboxId: row.sandbox_id,
      payload: row.payload as Record<string, unknown>,
      at: row.created_at,
    },
  }));
}

/** The next entries of the audit log that concern accounts and API keys. */
export async function listAuthEvents(db: Db, after: EventPosition, limit: number): Promise<PlacedEvent<AuthEvent>[]> {
  const rows = await db
    .selectFrom('audit_logs')
    .select(['id', 'team_id', 'actor_type', 'actor_id', 'actor_name', 'resource_id', 'action', 'status', 'metadata'])
    .select(['created_at', 'position'])
    .where(({ eb, refTuple, tuple }) =>
      eb(
        refTuple('position', 'id'),
        '>',
        tuple(after.position, (after.last === '' ? maxId : after.last) as AuthEvent['id']),
      ),
    )
    .where('position', '<', horizon)
    .where('resource_type', 'in', ['user', 'api_key', 'platform'])
    .orderBy('position')
    .orderBy('id')
    .limit(limit)
    .execute();
  return rows.map((row) => ({
    position: row.position,
    last: row.id,
    event: {
      id: row.id,
      action: row.action,
      teamId: row.team_id,
      actor: { type: row.actor_type, id: row.actor_id, name: row.actor_name },
      resourceId: row.resource_id,
      status: row.status,
      metadata: row.metadata as Record<string, unknown>,
      at: row.created_at,
    },
  }));
}
