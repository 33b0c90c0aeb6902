import { AppError } from '@aviary/core';
import { PGlite } from '@electric-sql/pglite';
import {
  CompiledQuery,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type QueryResult,
} from 'kysely';
import { fromPostgresError, postgresErrorCode } from './from-postgres-error.ts';
import type { Tables } from './tables.ts';

/** OID of bigint: both stores hand it over as a number, as none of our counters nears 2^53. */
export const int8Oid = 20;

/** Longest wait for the connection. */
const acquireTimeoutMs = 30_000;

const settings = { parsers: { [int8Oid]: Number } };

/** Opens the store in `directory`, or one in memory: an empty one, which takes seconds to make, or a copy of `template`. */
export function openPglite({ directory, template }: { directory?: string; template?: Blob }): Promise<PGlite> {
  if (directory !== undefined) return PGlite.create({ ...settings, dataDir: directory });
  return PGlite.create({ ...settings, ...(template ? { loadDataDir: template } : {}) });
}

/** `close` is called when the handle is destroyed, by default to close the store; `isBusy`: with a query or transaction under way. */
export function kyselyOn(
  pglite: PGlite,
  close: (isBusy: boolean) => Promise<void> = () => closePglite(pglite),
): Kysely<Tables> {
  return new Kysely<Tables>({ dialect: pgliteDialect(pglite, close) });
}

export async function closePglite(pglite: PGlite): Promise<void> {
  if (!pglite.closed) await pglite.close();
}

/**
 * Kysely on PGlite. PGlite has one connection; this hands it to one user at a time, because a query of another request
 * would otherwise run inside a transaction that is open at that moment. Kysely's own dialect does not keep them apart.
 */
function pgliteDialect(pglite: PGlite, close: (isBusy: boolean) => Promise<void>): Dialect {
  return {
    createAdapter: () => new PostgresAdapter(),
    createDriver: () => new PgliteDriver(pglite, close),
    createIntrospector: (db) => new PostgresIntrospector(db),
    createQueryCompiler: () => new PostgresQueryCompiler(),
  };
}

class PgliteDriver implements Driver {
  readonly #pglite: PGlite;
  readonly #connection: DatabaseConnection;
  readonly #close: (isBusy: boolean) => Promise<void>;
  #isTaken = false;
  #isDestroyed = false;
  readonly #waiting: (() => void)[] = [];

  constructor(pglite: PGlite, close: (isBusy: boolean) => Promise<void>) {
    this.#pglite = pglite;
    this.#connection = new PgliteConnection(pglite);
    this.#close = close;
  }

  async init(): Promise<void> {
    await this.#pglite.waitReady;
  }

  async acquireConnection(): Promise<DatabaseConnection> {
    if (this.#isTaken) await this.#waitForTurn();
    // The store may be another handle's by now.
    if (this.#isDestroyed) {
      await this.releaseConnection();
      throw new AppError('unavailable', 'the embedded database is closed');
    }
    this.#isTaken = true;
    return this.#connection;
  }

  /** Code that asks for a connection while it holds the one there is would wait for ever: it gets an error instead. */
  async #waitForTurn(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(() => {
      this.#waiting.splice(this.#waiting.indexOf(resolve), 1);
      const message = `the embedded database was busy for ${acquireTimeoutMs} ms; ask again in a moment`;
      reject(new AppError('unavailable', message, { retryAfterSec: 1 }));
    }, acquireTimeoutMs);
    this.#waiting.push(resolve);
    try {
      await promise;
    } finally {
      clearTimeout(timer);
    }
  }

  async releaseConnection(): Promise<void> {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#isTaken = false;
  }

  async beginTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw('BEGIN'));
  }

  async commitTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw('COMMIT'));
  }

  async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw('ROLLBACK'));
  }

  async destroy(): Promise<void> {
    this.#isDestroyed = true;
    await this.#close(this.#isTaken);
  }
}

class PgliteConnection implements DatabaseConnection {
  readonly #pglite: PGlite;

  constructor(pglite: PGlite) {
    this.#pglite = pglite;
  }

  async executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    const result = await this.#pglite.query<R>(query.sql, [...query.parameters]).catch(refuse);
    return { rows: result.rows, numAffectedRows: BigInt(result.affectedRows ?? 0) };
  }

  // biome-ignore lint/correctness/useYield: the interface asks for a generator; nothing here streams from the database.
  async *streamQuery<R>(): AsyncIterableIterator<QueryResult<R>> {
    throw new Error('PGlite does not stream query results');
  }
}

/** What the store says by a code; where there is none, as of one that is closed, the error is a fault of ours. */
function refuse(error: unknown): never {
  throw postgresErrorCode(error) === undefined ? error : fromPostgresError(error);
}
