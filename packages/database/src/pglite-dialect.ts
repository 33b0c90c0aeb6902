import { AppError } from '@aviary/core';
import { PGlite } from '@electric-sql/pglite';
import {
  CompiledQuery,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type QueryResult,
} from 'kysely';

/** OID of bigint: both stores hand it over as a number, as none of our counters nears 2^53. */
export const int8Oid = 20;

/** Longest wait for the connection. */
const acquireTimeoutMs = 30_000;

const settings = { parsers: { [int8Oid]: Number } };

/** An empty store, to start further ones in memory from: making one anew takes seconds of processor time. */
let emptyStore: Promise<File | Blob> | undefined;
let openedInMemory = 0;

export async function openPglite(directory: string | undefined): Promise<PGlite> {
  if (directory !== undefined) return PGlite.create({ ...settings, dataDir: directory });
  // Keeping the empty store costs memory and time, too: a process that opens only one has nothing of it.
  if (++openedInMemory === 1) return PGlite.create(settings);
  emptyStore ??= makeEmptyStore();
  return PGlite.create({ ...settings, loadDataDir: await emptyStore });
}

async function makeEmptyStore(): Promise<File | Blob> {
  const pglite = await PGlite.create();
  try {
    return await pglite.dumpDataDir('none');
  } finally {
    await pglite.close();
  }
}

/**
 * Kysely on PGlite. PGlite has one connection; this hands it to one user at a time, because a query of another request
 * would otherwise run inside a transaction that is open at that moment. Kysely's own dialect does not keep them apart.
 */
export function pgliteDialect(pglite: PGlite): Dialect {
  return {
    createAdapter: () => new PostgresAdapter(),
    createDriver: () => new PgliteDriver(pglite),
    createIntrospector: (db) => new PostgresIntrospector(db),
    createQueryCompiler: () => new PostgresQueryCompiler(),
  };
}

class PgliteDriver implements Driver {
  readonly #pglite: PGlite;
  readonly #connection: DatabaseConnection;
  #isTaken = false;
  readonly #waiting: (() => void)[] = [];

  constructor(pglite: PGlite) {
    this.#pglite = pglite;
    this.#connection = new PgliteConnection(pglite);
  }

  async init(): Promise<void> {
    await this.#pglite.waitReady;
  }

  async acquireConnection(): Promise<DatabaseConnection> {
    if (this.#isTaken) await this.#waitForTurn();
    this.#isTaken = true;
    return this.#connection;
  }

  /** Code that asks for a connection while it holds the one there is would wait for ever: it gets an error instead. */
  async #waitForTurn(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(() => {
      this.#waiting.splice(this.#waiting.indexOf(resolve), 1);
      reject(new AppError('deadline_exceeded', `the embedded database was busy for ${acquireTimeoutMs} ms`));
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
    if (!this.#pglite.closed) await this.#pglite.close();
  }
}

class PgliteConnection implements DatabaseConnection {
  readonly #pglite: PGlite;

  constructor(pglite: PGlite) {
    this.#pglite = pglite;
  }

  async executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    const result = await this.#pglite.query<R>(query.sql, [...query.parameters]);
    return { rows: result.rows, numAffectedRows: BigInt(result.affectedRows ?? 0) };
  }

  // biome-ignore lint/correctness/useYield: the interface asks for a generator; nothing here streams from the database.
  async *streamQuery<R>(): AsyncIterableIterator<QueryResult<R>> {
    throw new Error('PGlite does not stream query results');
  }
}
