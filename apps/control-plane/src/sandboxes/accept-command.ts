import type { Sandbox } from '@aviary/api-contract';
import {
  type AppError,
  newId,
  nextSandboxStatus,
  type SandboxId,
  type SandboxTransition,
  type TeamId,
} from '@aviary/core';
import type { Actor, Db, ServiceContext } from '../context.ts';
import { recordAudit } from '../events.ts';
import { claimKey, type KeyedRequest, storeReply } from '../idempotency.ts';
import type { Operation, OperationKind, OperationPayloads } from '../operations/operation.ts';
import type { OperationRunner } from '../operations/operation-runner.ts';
import { applyTransition, findSandboxById, getSandbox, type SandboxRow, stateConflict } from './sandbox-store.ts';
import { viewSandbox } from './sandbox-view.ts';

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

/** What a command on one sandbox does: its transition and the operation that carries it out. */
export interface SandboxCommand<K extends OperationKind> {
  sandboxId: SandboxId;
  verb: string;
  transition: SandboxTransition;
  kind: K;
  payload: OperationPayloads[K];
  /** Further checks and reservations in the same transaction. */
  prepare?: (db: Db, row: SandboxRow) => Promise<void>;
}

/** Moves one sandbox and leaves an operation. Throws `not_found`, or `invalid_state` with the present state. */
export function acceptSandboxCommand<K extends OperationKind>(
  deps: CommandDeps,
  context: CommandContext,
  command: SandboxCommand<K>,
): Promise<Accepted<Sandbox>> {
  const { sandboxId, verb, transition, kind, payload } = command;
  return acceptCommand(deps, context, async (db) => {
    const row = await getSandbox(db, context.teamId, sandboxId);
    if (nextSandboxStatus(row.status, transition) === undefined) throw stateConflict(row, verb);
    await command.prepare?.(db, row);
    const moved = await applyTransition(db, row, { transition });
    if (!moved) throw await lostRace(db, row, verb);
    await recordAudit(db, {
      teamId: context.teamId,
      actor: context.actor,
      resourceType: 'sandbox',
      resourceId: sandboxId,
      action: `sandbox.${kind}`,
    });
    const operation = await deps.runner.accept(db, {
      id: newId('operation'),
      teamId: context.teamId,
      sandboxId,
      kind,
      payload,
    });
    return { body: viewSandbox(moved), operations: [operation] };
  });
}

async function lostRace(db: Db, seen: SandboxRow, verb: string): Promise<AppError> {
  return stateConflict((await findSandboxById(db, seen.id)) ?? seen, verb);
}
