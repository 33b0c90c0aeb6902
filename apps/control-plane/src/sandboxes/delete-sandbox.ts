import type { Sandbox } from '@aviary/api-contract';
import { AppError, type SandboxId } from '@aviary/core';
import type { Accepted, CommandContext, CommandDeps } from '../operations/accept-command.ts';
import { findRunningOperation } from '../operations/operation-store.ts';
import { acceptSandboxCommand } from './accept-sandbox-command.ts';
import { getSandbox } from './sandbox-store.ts';
import { viewSandbox } from './sandbox-view.ts';

/** Accepts a stop for good, from any state. One that is being stopped already is answered with the operation that does it. */
export async function deleteSandbox(
  deps: CommandDeps,
  context: CommandContext,
  sandboxId: SandboxId,
): Promise<Accepted<Sandbox>> {
  for (;;) {
    const row = await getSandbox(deps.database.db, context.teamId, sandboxId);
    if (row.status === 'stopped') return { body: viewSandbox(row), operationId: null, isReplay: false };
    if (row.status === 'stopping') {
      const underWay = await findRunningOperation(deps.database.db, { sandboxId, kind: 'destroy' });
      if (underWay) return { body: viewSandbox(row), operationId: underWay, isReplay: false };
      // It has ended since we looked.
      const present = await getSandbox(deps.database.db, context.teamId, sandboxId);
      return { body: viewSandbox(present), operationId: null, isReplay: false };
    }
    try {
      return await acceptSandboxCommand(deps, context, {
        sandboxId,
        action: 'delete',
        transition: 'stop_requested',
        step: { kind: 'destroy', payload: {} },
      });
    } catch (error) {
      // Another write came between the look and ours: every state allows a stop, so look again.
      if (!(error instanceof AppError && error.code === 'invalid_state')) throw error;
    }
  }
}
