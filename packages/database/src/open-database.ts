import { once } from 'node:events';
import { must } from '@aviary/core';
import type { PGlite } from '@electric-sql/pglite';
import { Kysely, PostgresDialect, sql } from 'kysely';
import { lockDirectory } from './directory-lock.ts';
import { listenOnPostgres, type NoticeListener } from './notices.ts';
import { closePglite, kyselyOn, openPglite } from './pglite-dialect.ts';
import { openPool } from './postgres-pool.ts';
import type { Tables } from './tables.ts';
import { runUnitOfWork, type UnitOfWork } from './unit-of-work.ts';

export interface DatabaseOptions {
  /** A PostgreSQL URL. Unset means PGlite. */
  url?: string;
  /** Where PGlite keeps its files; unset means in memory, for tests. */
  directory?: string;
  /** What a store in memory starts from, as `makeStoreTemplate` makes it; unset means an empty one. */
  template?: Blob;
  /** How long to wait for another process that has the directory and may be about to end. Default 15 000. */
  lockTimeoutMs?: number;
  /** Connections to PostgreSQL. Default 10. */
  poolSize?: number;
  /** Called when an idle connection breaks; the pool replaces it. */
  onConnectionError?: (error: Error) => void;
}

/** An open store: the same SQL on PostgreSQL and on PGlite. */
export interface Database extends AsyncDisposable {
  readonly kind: 'postgres' | 'pglite';
  readonly db: Kysely<Tables>;
  /**
   * Runs `work` if nobody else, in any process, holds the lock called `name`; otherwise resolves with undefined at once.
   * The lock goes with its connection, so a replica that dies frees it.
   */
  tryWithLock<T>(name: string, work: () => Promise<T>): Promise<T | undefined>;
  /** The store's own time, by which it dates changes. Throws when the store does not answer. */
  readTime(): Promise<Date>;
  /** Runs `work` in one transaction, and after the commit what it left to tell. */
  transaction<T>(work: (unit: UnitOfWork) => Promise<T>): Promise<T>;
  /** Hands over what anybody notifies on `channel` in a transaction that was kept, until `signal` aborts. */
  listen(channel: string, listener: NoticeListener, signal: AbortSignal): Promise<void>;
}

/** Opens the store. It does not migrate: see `migrate`. */
export function openDatabase(options: DatabaseOptions): Promise<Database> {
  return options.url === undefined ? openEmbedded(options) : openPostgres(options.url, options);
}

async function openPostgres(url: string, options: DatabaseOptions): Promise<Database> {
  const { poolSize = 10, onConnectionError = () => undefined } = options;
  const pool = openPool({ url, poolSize, onConnectionError });
  const db = new Kysely<Tables>({ dialect: new PostgresDialect({ pool }) });
  return {
    kind: 'postgres',
    db,
    tryWithLock: (name, work) =>
      db.connection().execute(async (connection) => {
        const { rows } = await sql<{ taken: boolean }>`
          SELECT pg_try_advisory_lock(hashtext(${name})) AS taken`.execute(connection);
        if (!rows[0]?.taken) return undefined;
        try {
          return await work();
        } finally {
          await sql`SELECT pg_advisory_unlock(hashtext(${name}))`.execute(connection);
        }
      }),
    readTime: () => readTime(db),
    transaction: (work) => runUnitOfWork(db, work),
    listen: (channel, listener, signal) => listenOnPostgres({ url, channel }, listener, signal),
    [Symbol.asyncDispose]: () => db.destroy(),
  };
}

/** Longer than a process takes to close its database after it was told to end, or noticed that it should. */
const defaultLockTimeoutMs = 15_000;

async function openEmbedded({
  directory,
  template,
  lockTimeoutMs: timeoutMs = defaultLockTimeoutMs,
}: DatabaseOptions): Promise<Database> {
  const lock = directory === undefined ? undefined : await lockDirectory(directory, { timeoutMs });
  try {
    const pglite = await openPglite({
      ...(directory === undefined ? {} : { directory }),
      ...(template ? { template } : {}),
    });
    return embeddedDatabase(pglite, async () => {
      await closePglite(pglite);
      lock?.[Symbol.dispose]();
    });
  } catch (error) {
    lock?.[Symbol.dispose]();
    throw error;
  }
}

/** A handle on a store of this process. `close` is called when it is disposed; see `kyselyOn`. */
export function embeddedDatabase(pglite: PGlite, close: (isBusy: boolean) => Promise<void>): Database {
  const db = kyselyOn(pglite, close);
  const held = new Set<string>();
  return {
    kind: 'pglite',
    db,
    // One process owns the files, so a lock among its own loops is all there is to take.
    tryWithLock: async (name, work) => {
      if (held.has(name)) return undefined;
      held.add(name);
      try {
        return await work();
      } finally {
        held.delete(name);
      }
    },
    readTime: () => readTime(db),
    transaction: (work) => runUnitOfWork(db, work),
    listen: async (channel, { onNotice, onGap }, signal) => {
      // Inside a transaction of somebody else a LISTEN would go with it: it waits for its turn.
      const stop = await db.connection().execute(() => pglite.listen(channel, onNotice));
      onGap();
      if (!signal.aborted) await once(signal, 'abort');
      if (!pglite.closed) await db.connection().execute(() => stop());
    },
    [Symbol.asyncDispose]: () => db.destroy(),
  };
}

async function readTime(db: Kysely<Tables>): Promise<Date> {
  const { rows } = await sql<{ now: Date }>`SELECT now() AS now`.execute(db);
  return must(rows[0], 'a query without a table answers one row').now;
}
