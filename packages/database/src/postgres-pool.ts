import { AppError } from '@aviary/core';
import type { PostgresPool, PostgresPoolClient } from 'kysely';
import pg from 'pg';
import { fromPostgresError } from './from-postgres-error.ts';
import { int8Oid } from './pglite-dialect.ts';
import { StatementNames } from './statement-names.ts';

/** Longest wait for a connection: for a free one, or for a server that does not answer. */
const connectTimeoutMs = 10_000;
/** Longest time a statement may take before PostgreSQL ends it. */
const statementTimeoutMs = 30_000;
/** Longest wait for the end of a statement, also from a server that is stuck: PostgreSQL's own limit comes first. */
const answerTimeoutMs = statementTimeoutMs + 5_000;

export interface PoolOptions {
  url: string;
  poolSize: number;
  onConnectionError: (error: Error) => void;
}

/** Connections to PostgreSQL. What they throw while it is away, or has no room, is `unavailable`; the next who asks gets a new one. */
export function openPool({ url, poolSize, onConnectionError }: PoolOptions): PostgresPool {
  const pool = new pg.Pool({
    connectionString: url,
    max: poolSize,
    keepAlive: true,
    connectionTimeoutMillis: connectTimeoutMs,
    statement_timeout: statementTimeoutMs,
    query_timeout: answerTimeoutMs,
    types: {
      getTypeParser: (oid, format) =>
        oid === int8Oid ? (text: string) => Number(text) : pg.types.getTypeParser(oid, format),
    },
  });
  const names = new StatementNames();
  pool.on('error', onConnectionError);
  // The pool listens to idle connections only, and one that breaks in use would end the process. Its user gets the error.
  pool.on('connect', (client) => client.on('error', () => undefined));
  return {
    connect: async () => {
      try {
        return guard(await pool.connect(), names);
      } catch (error) {
        throw fromPostgresError(error);
      }
    },
    end: () => pool.end(),
    options: pool.options,
  };
}

/** The connection as its one user has it until its release. */
function guard(client: pg.PoolClient, names: StatementNames): PostgresPoolClient {
  let isBroken = false;
  const query = async (text: string, values: readonly unknown[]) => {
    try {
      const name = values.length === 0 ? undefined : names.nameOf(text);
      return await client.query({ text, values: [...values], ...(name === undefined ? {} : { name }) });
    } catch (error) {
      const told = fromPostgresError(error);
      isBroken ||= told instanceof AppError;
      throw isBroken && text === 'commit' ? unknownOutcome(error) : told;
    }
  };
  // Nothing here reads by a cursor, the other form of `query`.
  return { query: query as unknown as PostgresPoolClient['query'], release: () => client.release(isBroken) };
}

/** The one case in which nobody can tell whether something was done. */
function unknownOutcome(cause: unknown): AppError {
  const message =
    'the database went away while it kept the change, which may have been made: look, or repeat the request with its Idempotency-Key';
  return new AppError('unavailable', message, { cause, details: { outcome: 'unknown' }, retryAfterSec: 1 });
}
