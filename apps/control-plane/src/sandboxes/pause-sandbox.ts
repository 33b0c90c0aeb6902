import type { Sandbox } from '@aviary/api-contract';
import type { SandboxId } from '@aviary/core';
import type { Accepted, CommandContext, CommandDeps } from '../operations/accept-command.ts';
import { acceptSandboxCommand } from './accept-sandbox-command.ts';

/** Accepts a pause of a running sandbox. `isForced`: a guest that does not answer is stopped, and its disk saved. */
export function pauseSandbox(
  deps: CommandDeps,
  context: CommandContext,
  { sandboxId, isForced }: { sandboxId: SandboxId; isForced: boolean },
): Promise<Accepted<Sandbox>> {
  return acceptSandboxCommand(deps, context, {
    sandboxId,
    action: 'pause',
    transition: 'pause_requested',
    step: { kind: 'pause', payload: { isForced } },
  });
}
