import { sql } from 'kysely';
import type { Db } from '../context.ts';

/** Rows that are counted one by one end here: a longer queue says no more. */
const maxCounted = 10_000;

/** How many there are of each status. */
export type Counts = Record<string, number>;

/** What the database says of the platform as a whole, all teams together. */
export interface PlatformCounts {
  sandboxes: Counts;
  hosts: Counts;
  /** `running`: under way; `due`: those of them that no replica is at. */
  operations: Counts;
  /** By who hears them: events that are still to be told, at most {@link maxCounted} each. */
  events: Counts;
  /** `waiting` and `failed`. */
  mails: Counts;
}

/** Sandboxes that are gone are not counted: there is no end to them. */
export async function countPlatform(db: Db): Promise<PlatformCounts> {
  const count = sql<number>`count(*)::integer`.as('count');
  const sandboxes = await db
    .selectFrom('sandboxes')
    .select(['status', count])
    .where('status', '<>', 'stopped')
    .groupBy('status')
    .execute();
  const hosts = await db.selectFrom('hosts').select(['status', count]).groupBy('status').execute();
  const operations = await db
    .selectFrom('operations')
    .select([
      sql<number>`count(*)::integer`.as('running'),
      sql<number>`count(*) FILTER (WHERE lease_until < now())::integer`.as('due'),
    ])
    .where('state', '=', 'running')
    .executeTakeFirstOrThrow();
  const mails = await db
    .selectFrom('mails')
    .select(['state', count])
    .where('state', '<>', 'logged')
    .groupBy('state')
    .execute();
  return {
    sandboxes: Object.fromEntries(sandboxes.map((row) => [row.status, row.count])),
    hosts: Object.fromEntries(hosts.map((row) => [row.status, row.count])),
    operations: { ...operations },
    events: await countEvents(db),
    mails: Object.fromEntries(mails.map((row) => [row.state, row.count])),
  };
}

/** Of hooks for sandboxes' events: how many each has still to hear. */
async function countEvents(db: Db): Promise<Counts> {
  const { rows } = await sql<{ name: string; count: number }>`
    SELECT name, (
      SELECT count(*)::integer FROM (
        SELECT 1 FROM outbox_events
        WHERE (outbox_events.position, outbox_events.seq) >
          (event_consumers.position, coalesce(nullif(event_consumers.last, ''), ${String(Number.MAX_SAFE_INTEGER)})::bigint)
        LIMIT ${maxCounted}
      ) AS waiting
    ) AS count
    FROM event_consumers WHERE name LIKE '%/sandboxes'`.execute(db);
  return Object.fromEntries(rows.map(({ name, count }) => [name, count]));
}
