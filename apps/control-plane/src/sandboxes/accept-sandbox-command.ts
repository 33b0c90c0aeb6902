import type { Sandbox } from '@aviary/api-contract';
import {
  type AppError,
  nextSandboxStatus,
  type SandboxActionName,
  type SandboxId,
  type SandboxTransition,
} from '@aviary/core';
import { recordAudit } from '../audit/audit-store.ts';
import type { Db } from '../context.ts';
import { type Accepted, acceptCommand, type CommandContext, type CommandDeps } from '../operations/accept-command.ts';
import { type SandboxStep, sandboxOperations } from './sandbox-operations.ts';
import { applyTransition, findSandboxById, getSandbox, type SandboxRow, stateConflict } from './sandbox-store.ts';
import { viewSandbox } from './sandbox-view.ts';

/** What a command on one sandbox does: its transition and the operation that carries it out. */
export interface SandboxCommand {
  sandboxId: SandboxId;
  action: SandboxActionName;
  transition: SandboxTransition;
  step: SandboxStep;
  /** Further checks and reservations in the same transaction. */
  prepare?: (db: Db, row: SandboxRow) => Promise<void>;
}

/** Moves one sandbox and leaves an operation. Throws `not_found`, or `invalid_state` with the present state. */
export function acceptSandboxCommand(
  deps: CommandDeps,
  context: CommandContext,
  command: SandboxCommand,
): Promise<Accepted<Sandbox>> {
  const { sandboxId, action, transition, step } = command;
  return acceptCommand(deps, context, async (unit) => {
    const { db } = unit;
    const row = await getSandbox(db, context.teamId, sandboxId);
    if (nextSandboxStatus(row.status, transition) === undefined) throw stateConflict(row, action);
    await command.prepare?.(db, row);
    const moved = await applyTransition(db, row, { transition });
    if (!moved) throw await lostRace(db, row, action);
    await recordAudit(db, {
      teamId: context.teamId,
      actor: context.actor,
      resourceId: sandboxId,
      action: `sandbox.${step.kind}`,
    });
    const about = { teamId: context.teamId, sandboxId, subject: { type: 'sandbox', id: sandboxId } } as const;
    const operationId = await deps.runner.accept(unit, sandboxOperations, { operation: { ...about, ...step } });
    return { body: viewSandbox(moved), operationId };
  });
}

async function lostRace(db: Db, seen: SandboxRow, action: SandboxActionName): Promise<AppError> {
  return stateConflict((await findSandboxById(db, seen.id)) ?? seen, action);
}
