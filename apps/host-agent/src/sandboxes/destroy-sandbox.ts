import { rm } from 'node:fs/promises';
import { errorText, type SandboxId, toAppError } from '@aviary/core';
import { fromNodeError } from '@aviary/service-kit';
import { releaseMicroVm } from './release-micro-vm.ts';
import type { SandboxContext } from './sandbox-context.ts';
import type { Sandbox } from './sandbox-registry.ts';

/** Ends a sandbox and removes all that it has on this host. No error when it is not here. */
export function destroySandbox(
  context: SandboxContext,
  { sandboxId, operationId }: { sandboxId: SandboxId; operationId: string },
): Promise<void> {
  const { registry, faults, logger } = context;
  return registry.lock(sandboxId, async () => {
    const sandbox = registry.find(sandboxId);
    if (!sandbox) return;
    await registry
      .save(sandbox, { state: 'stopping', reason: '', intent: { operationId, kind: 'destroy' } })
      .catch((error: unknown) => {
        // A full disk must not keep anybody from freeing space. After a crash in between it is deleted again.
        if (toAppError(fromNodeError(error)).code !== 'disk_full') throw error;
        logger.warn({ sandboxId, error: errorText(error) }, 'deleting a sandbox without a note of it');
      });
    await faults.hit('destroy.after-journal');
    await releaseSandbox(context, sandbox);
    await registry.events.push('sandbox.stopped', sandbox.record);
  });
}

/** Releases the microVM, removes the files, then forgets the record: in this order, so that a crash in between is finished later. */
export async function releaseSandbox(context: SandboxContext, sandbox: Sandbox): Promise<void> {
  const { registry, layout, generations, faults } = context;
  await releaseMicroVm(context, sandbox);
  await faults.hit('destroy.after-release');
  await rm(layout.sandbox(sandbox.record.homeId), { recursive: true, force: true });
  await faults.hit('destroy.after-files');
  await generations.forgetSandbox(sandbox.record.sandboxId);
  await registry.remove(sandbox.record.sandboxId);
}
