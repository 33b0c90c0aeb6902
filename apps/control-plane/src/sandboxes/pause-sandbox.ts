import type { Sandbox } from '@aviary/api-contract';
import type { SandboxId } from '@aviary/core';
import { type Accepted, acceptSandboxCommand, type CommandContext, type CommandDeps } from './accept-command.ts';

/** Accepts a pause of a running sandbox. */
export function pauseSandbox(
  deps: CommandDeps,
  context: CommandContext,
  sandboxId: SandboxId,
): Promise<Accepted<Sandbox>> {
  return acceptSandboxCommand(deps, context, {
    sandboxId,
    verb: 'pause',
    transition: 'pause_requested',
    kind: 'pause',
    payload: {},
  });
}
