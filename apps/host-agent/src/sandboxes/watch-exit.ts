import { errorText } from '@aviary/core';
import type { Sandbox } from '../registry/sandbox-registry.ts';
import { releaseMicroVm } from '../starts/release-micro-vm.ts';
import type { StartDeps } from '../starts/start-deps.ts';
import { withLastOutput } from '../vmm/last-output.ts';

type Deps = Pick<StartDeps, 'registry' | 'vmm' | 'slots' | 'layout' | 'logger'>;

/**
 * Tells the truth when a microVM ends by itself: the sandbox becomes `error` with the reason, what it held is freed, and its
 * disk and generations stay, so that it can be started again. No effect on a sandbox that has no microVM.
 */
export function watchExit(deps: Deps, sandbox: Sandbox): void {
  const vm = sandbox.running?.vm;
  if (!vm) return;
  const { sandboxId } = sandbox.record;
  void vm.exited.then(({ reason, lastOutput }) =>
    deps.registry
      .lock(sandboxId, async () => {
        // Somebody else ended it on purpose, or it has a new microVM by now.
        if (sandbox.running?.vm !== vm) return;
        await markLost(deps, sandbox, withLastOutput(reason, lastOutput));
      })
      .catch((error: unknown) => {
        deps.logger.error({ sandboxId, error: errorText(error) }, 'cannot clean up after a lost microVM');
      }),
  );
}

/** Puts a sandbox whose microVM is gone into `error`. Under its lock. */
export async function markLost(deps: Deps, sandbox: Sandbox, reason: string): Promise<void> {
  const { registry, logger } = deps;
  const { sandboxId } = sandbox.record;
  logger.warn({ sandboxId, reason }, 'microVM lost');
  await releaseMicroVm(deps, sandbox).catch((error: unknown) => {
    logger.error({ sandboxId, error: errorText(error) }, 'cannot release everything of a lost microVM');
  });
  await registry.transition(sandbox, { kind: 'lost', reason: `the microVM ended: ${reason}` });
}
