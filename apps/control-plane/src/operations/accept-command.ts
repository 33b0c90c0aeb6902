import type { TeamId } from '@aviary/core';
import type { Actor, Db, ServiceContext } from '../context.ts';
import { claimKey, type KeyedRequest, storeReply } from '../idempotency.ts';
import type { Operation } from './operation.ts';
import type { OperationRunner } from './operation-runner.ts';

export type CommandDeps = Pick<ServiceContext, 'database'> & { runner: OperationRunner };

/** Who asks for what of which team, and the key that makes it happen once. */
export interface CommandContext {
  teamId: TeamId;
  actor: Actor;
  keyed?: KeyedRequest;
}

export interface Accepted<T> {
  body: T;
  isReplay: boolean;
}

/**
 * Runs `work` in one transaction together with the idempotency key, and starts its operations after the commit. A replica
 * that dies in between loses nothing: the operations are in the database.
 */
export async function acceptCommand<T>(
  { database, runner }: CommandDeps,
  { keyed }: CommandContext,
  work: (db: Db) => Promise<{ body: T; operations: Operation[] }>,
): Promise<Accepted<T>> {
  const accepted = await database.db.transaction().execute(async (transaction) => {
    const known = keyed && (await claimKey(transaction, keyed));
    if (known) return { body: known.body as T, isReplay: true, operations: [] };
    const { body, operations } = await work(transaction);
    if (keyed) await storeReply(transaction, keyed, { status: 202, body });
    return { body, isReplay: false, operations };
  });
  for (const operation of accepted.operations) runner.start(operation);
  return { body: accepted.body, isReplay: accepted.isReplay };
}
