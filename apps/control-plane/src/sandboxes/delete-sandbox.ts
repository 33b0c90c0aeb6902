import type { Sandbox } from '@aviary/api-contract';
import type { SandboxId } from '@aviary/core';
import type { Accepted, CommandContext, CommandDeps } from '../operations/accept-command.ts';
import { acceptSandboxCommand } from './accept-sandbox-command.ts';
import { getSandbox } from './sandbox-store.ts';
import { viewSandbox } from './sandbox-view.ts';

/** Accepts a stop for good, from any state. One that is stopped or stopping already is answered as it is. */
export async function deleteSandbox(
  deps: CommandDeps,
  context: CommandContext,
  sandboxId: SandboxId,
): Promise<Accepted<Sandbox>> {
  for (;;) {
    const row = await getSandbox(deps.database.db, context.teamId, sandboxId);
    if (row.status === 'stopped' || row.status === 'stopping') return { body: viewSandbox(row), isReplay: true };
    try {
      return await acceptSandboxCommand(deps, context, {
        sandboxId,
        action: 'delete',
        transition: 'stop_requested',
        kind: 'destroy',
        payload: {},
      });
    } catch (error) {
      // Another write came between the look and ours: every state allows a stop, so look again.
      if (!isStateConflict(error)) throw error;
    }
  }
}

function isStateConflict(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'invalid_state';
}
