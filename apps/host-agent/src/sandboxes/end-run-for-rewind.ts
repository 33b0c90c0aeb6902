import { AppError, type GenerationId } from '@aviary/core';
import { failureReason } from './failure-reason.ts';
import { pauseRunning, removeRunFiles } from './pause-sandbox.ts';
import { releaseMicroVm } from './release-micro-vm.ts';
import { findRestoreMismatches } from './restore-fit.ts';
import type { SandboxContext } from './sandbox-context.ts';
import type { Sandbox } from './sandbox-registry.ts';

/** Failures of a guest that does not answer: it cannot be saved, and must not keep its user from going back. */
const unansweredCodes: readonly string[] = ['guest_unavailable', 'deadline_exceeded'];

/**
 * Ends what runs, so that the sandbox can go back to a generation: the running state is saved first, as a generation that can be gone
 * back to in its turn. Nothing is ended before the wanted generation is known to be whole. When the guest does not answer, its
 * state is given up, and the text returned says so; any other failure to save it throws, and the sandbox runs on.
 */
export async function endRunForRewind(
  context: SandboxContext,
  sandbox: Sandbox,
  { generationId, isCold, operationId }: { generationId: GenerationId; isCold: boolean; operationId: string },
): Promise<string | undefined> {
  const { registry, generations } = context;
  const manifest = generations.get(generationId);
  if (!manifest) throw new AppError('not_found', `there is no generation ${generationId} on this host`);
  const needsDiskOnly = isCold || (await findRestoreMismatches(context, manifest)).length > 0;
  await generations.open(generationId, { need: needsDiskOnly ? 'disk' : 'memory' });
  const running = registry.getRunning(sandbox.record.sandboxId);
  try {
    // An id of its own: the rewind's must not count as done when the pause is.
    await pauseRunning(context, running, { operationId: `${operationId}:pause`, cause: 'pause' });
    return undefined;
  } catch (error) {
    const isUnanswered = error instanceof AppError && unansweredCodes.includes(error.code);
    if (!isUnanswered || sandbox.record.state !== 'running') throw error;
    await giveUpRun(context, sandbox);
    return `what ran before could not be saved: ${failureReason(error)}`;
  }
}

/** A sandbox that never paused has no state of its own to fall back on: it keeps its disk. */
async function giveUpRun(context: SandboxContext, sandbox: Sandbox): Promise<void> {
  const { registry } = context;
  const reason = 'its run was ended for a rewind';
  await releaseMicroVm(context, sandbox);
  if (sandbox.record.generationId === undefined) {
    await registry.save(sandbox, { state: 'error', reason });
    return;
  }
  await removeRunFiles(context, sandbox);
  await registry.save(sandbox, { state: 'paused', reason });
}
