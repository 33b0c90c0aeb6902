import { errorText } from '@aviary/core';
import { withLastOutput } from '../vmm/last-output.ts';
import type { MicroVm } from '../vmm/vmm.ts';
import { releaseMicroVm } from './release-micro-vm.ts';
import type { SandboxContext } from './sandbox-context.ts';
import type { Sandbox } from './sandbox-registry.ts';

/**
 * Tells the truth when a microVM ends by itself: the sandbox becomes `error` with the reason, what it held is freed, and its
 * disk and generations stay, so that it can be started again.
 */
export function watchExit(context: SandboxContext, sandbox: Sandbox, vm: MicroVm): void {
  void vm.exited.then(({ reason, lastOutput }) =>
    context.registry
      .lock(sandbox.record.sandboxId, async () => {
        // Somebody else ended it on purpose, or it has a new microVM by now.
        if (sandbox.running?.vm !== vm) return;
        await markLost(context, sandbox, withLastOutput(reason, lastOutput));
      })
      .catch((error: unknown) => {
        context.logger.error(
          { sandboxId: sandbox.record.sandboxId, error: errorText(error) },
          'cannot clean up after a lost microVM',
        );
      }),
  );
}

/** Puts a sandbox whose microVM is gone into `error`. Under its lock. */
export async function markLost(context: SandboxContext, sandbox: Sandbox, reason: string): Promise<void> {
  const { registry, logger } = context;
  const { record } = sandbox;
  logger.warn({ sandboxId: record.sandboxId, reason }, 'microVM lost');
  await releaseMicroVm(context, sandbox).catch((error: unknown) => {
    logger.error(
      { sandboxId: record.sandboxId, error: errorText(error) },
      'cannot release everything of a lost microVM',
    );
  });
  delete record.intent;
  await registry.save(sandbox, { state: 'error', reason: `the microVM ended: ${reason}` });
  await registry.events.push('sandbox.error', record, { reason: record.reason });
}
