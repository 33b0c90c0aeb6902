import type { OperationId, TeamId } from '@aviary/core';
import type { UnitOfWork } from '@aviary/database';
import type { Actor, ServiceContext } from '../context.ts';
import { claimKey, type KeyedRequest, storeReply } from '../idempotency/key-store.ts';
import type { OperationRunner } from './operation-runner.ts';

export type CommandDeps = Pick<ServiceContext, 'database'> & { runner: OperationRunner };

/** Who asks for what of which team, and the key that makes it happen once. */
export interface CommandContext {
  teamId: TeamId;
  actor: Actor;
  keyed?: KeyedRequest;
}

/** What a command leaves behind: the answer to give at once, and the operation that carries it out. */
export interface Command<T> {
  body: T;
  /** Null when nothing is left to do. */
  operationId: OperationId | null;
}

export interface Accepted<T> extends Command<T> {
  isReplay: boolean;
}

/**
 * Runs `work` in one transaction together with the idempotency key. The operations that it accepts start after the commit; a
 * replica that dies in between loses nothing, as they are in the database.
 */
export function acceptCommand<T>(
  { database }: CommandDeps,
  { keyed }: CommandContext,
  work: (unit: UnitOfWork) => Promise<Command<T>>,
): Promise<Accepted<T>> {
  return database.transaction(async (unit) => {
    const known = keyed && (await claimKey(unit.db, keyed));
    if (known) return { body: known.body as T, operationId: known.operationId, isReplay: true };
    const { body, operationId } = await work(unit);
    if (keyed) await storeReply(unit.db, keyed, { status: 202, body, operationId });
    return { body, operationId, isReplay: false };
  });
}
