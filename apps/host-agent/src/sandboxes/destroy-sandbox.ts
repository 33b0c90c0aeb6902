import { AppError, errorText, type SandboxId } from '@aviary/core';
import { fromNodeError } from '@aviary/service-kit';
import { subjectOf } from '../registry/sandbox-registry.ts';
import { releaseSandbox } from '../starts/release-sandbox.ts';
import type { StartDeps } from '../starts/start-deps.ts';

/** Ends a sandbox and removes all that it has on this host. No error when it is not here. */
export function destroySandbox(
  deps: Pick<StartDeps, 'registry' | 'vmm' | 'slots' | 'layout' | 'generations' | 'faults' | 'logger'>,
  { sandboxId, operationId }: { sandboxId: SandboxId; operationId: string },
): Promise<void> {
  const { registry, faults, logger } = deps;
  return registry.lock(sandboxId, async () => {
    const sandbox = registry.find(sandboxId);
    if (!sandbox) return;
    await registry.transition(sandbox, { kind: 'destroy_begun', operationId }).catch((error: unknown) => {
      // A full disk must not keep anybody from freeing space. After a crash in between it is deleted again.
      const known = fromNodeError(error);
      if (!(known instanceof AppError) || known.code !== 'disk_full') throw error;
      logger.warn({ sandboxId, error: errorText(error) }, 'deleting a sandbox without a note of it');
    });
    await faults.hit('destroy.after-journal');
    await releaseSandbox(deps, sandbox);
    await registry.events.push('sandbox.stopped', subjectOf(sandbox));
  });
}
