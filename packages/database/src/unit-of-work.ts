import type { Kysely } from 'kysely';
import type { Tables } from './tables.ts';

/** One transaction, and what is to be told of it. */
export interface UnitOfWork {
  db: Kysely<Tables>;
  /**
   * Calls `tell` once the transaction is kept, after those that were given before it; never when it is not kept. For what
   * the rest of the process must hear; it must not throw.
   */
  afterCommit(tell: () => void): void;
}

/** Runs `work` in one transaction, then tells what it left to tell. */
export async function runUnitOfWork<T>(db: Kysely<Tables>, work: (unit: UnitOfWork) => Promise<T>): Promise<T> {
  const left: (() => void)[] = [];
  const result = await db
    .transaction()
    .execute((transaction) => work({ db: transaction, afterCommit: (tell) => void left.push(tell) }));
  for (const tell of left) tell();
  return result;
}
