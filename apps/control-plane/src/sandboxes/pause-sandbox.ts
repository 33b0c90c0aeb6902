import type { Sandbox } from '@aviary/api-contract';
import type { SandboxId } from '@aviary/core';
import type { Accepted, CommandContext, CommandDeps } from '../operations/accept-command.ts';
import { acceptSandboxCommand } from './accept-sandbox-command.ts';

/** Accepts a pause of a running sandbox. */
export function pauseSandbox(
  deps: CommandDeps,
  context: CommandContext,
  sandboxId: SandboxId,
): Promise<Accepted<Sandbox>> {
  return acceptSandboxCommand(deps, context, {
    sandboxId,
    action: 'pause',
    transition: 'pause_requested',
    kind: 'pause',
    payload: {},
  });
}
