import { AppError, asId, errorText, type GenerationId, type SandboxId } from '@aviary/core';
import { phase } from '../phases.ts';
import { remainsOf } from '../registry/sandbox-record.ts';
import { isRunningSandbox, type Sandbox } from '../registry/sandbox-registry.ts';
import { machineFacts } from '../starts/machine-facts.ts';
import { openMemory } from '../starts/open-for-restore.ts';
import { releaseMicroVm } from '../starts/release-micro-vm.ts';
import { findRestoreMismatches } from '../starts/restore-fit.ts';
import type { StartDeps } from '../starts/start-deps.ts';
import { bootMicroVm, newToken, restoreMicroVm } from '../starts/start-micro-vm.ts';
import { endRunForRewind } from './end-run-for-rewind.ts';
import { failureReason } from './failure-reason.ts';
import { finishCommittedPause, type PauseDeps, removeRunFiles } from './pause-sandbox.ts';
import { watchExit } from './watch-exit.ts';

export interface ResumeOptions {
  sandboxId: SandboxId;
  operationId: string;
  timeoutSec: number;
  /** Unset means the current one. An older one rewinds. */
  generationId?: GenerationId;
  /** Start from the disk alone. */
  isCold: boolean;
}

/**
 * Starts a paused sandbox (or one in `error` that has something to start from) again, in a new network slot. When it throws, the
 * sandbox is paused as before. Throws `integrity` when saved files are damaged; `details.disk_intact` says whether a cold start can
 * still be had. Memory that this machine cannot restore is left aside: the sandbox starts from its disk and says why.
 */
export function resumeSandbox(deps: StartDeps & PauseDeps, options: ResumeOptions): Promise<Sandbox> {
  const { registry, generations, faults } = deps;
  const { sandboxId, operationId } = options;
  return registry.lock(sandboxId, async () => {
    const sandbox = registry.get(sandboxId);
    if (sandbox.record.lastOperationId === operationId) return sandbox;
    await finishCommittedPause(deps, sandbox);
    // Saving what runs makes one generation more, which must not push out the one to go back to.
    using _held =
      options.generationId === undefined ? undefined : generations.hold({ generationId: options.generationId });
    let unsaved: string | undefined;
    if (isRunningSandbox(sandbox) && options.generationId !== undefined) {
      const { generationId, isCold } = options;
      unsaved = await endRunForRewind(deps, sandbox, { generationId, isCold, operationId });
    }
    const before = (sandbox as Sandbox).record;
    if (before.state !== 'paused' && before.state !== 'error') {
      throw new AppError('invalid_state', `the sandbox is ${before.state}, not paused`, {
        details: { state: before.state },
      });
    }
    const generationId =
      options.generationId ?? asOptionalGeneration(generations.current(sandboxId)) ?? before.generationId;
    try {
      await registry.transition(sandbox, {
        ...{ kind: 'resume_begun', operationId, timeoutSec: options.timeoutSec },
        ...{ hostToken: newToken(), accessToken: newToken() },
      });
      await faults.hit('resume.after-journal');
      const fallback = await startFrom(deps, sandbox, generationId, options.isCold);
      await faults.hit('resume.before-running');
      if (options.generationId !== undefined) await generations.setCurrent(sandboxId, options.generationId);
      const cameBack = before.state === 'error' ? `came back from its last saved state; ${before.reason}` : '';
      await registry.transition(sandbox, {
        ...{ kind: 'started', operationId, reason: fallback ?? unsaved ?? cameBack },
        startPath: fallback === undefined ? 'resume' : 'cold_fallback',
        ...{ metadata: machineFacts(deps), atMs: registry.clock.now() },
        ...(generationId === undefined ? {} : { generationId }),
      });
    } catch (error) {
      await undo(deps, sandbox, failureReason(error));
      throw error;
    }
    watchExit(deps, sandbox);
    return sandbox;
  });
}

/** Each step is tried, and none hides why the resume failed: a journal that still says `resuming` is undone by the next agent. */
async function undo(deps: StartDeps & PauseDeps, sandbox: Sandbox, reason: string): Promise<void> {
  const { registry, logger } = deps;
  const { record } = sandbox;
  if (record.state !== 'resuming') return;
  for (const step of [
    () => releaseMicroVm(deps, sandbox),
    () => (record.back.state === 'paused' ? removeRunFiles(deps, sandbox) : Promise.resolve()),
    () => registry.transition(sandbox, { kind: 'resume_failed', reason: `the last resume failed: ${reason}` }),
  ]) {
    await step().catch((error: unknown) =>
      logger.error({ sandboxId: record.sandboxId, error: errorText(error) }, 'cannot undo all of a failed resume'),
    );
  }
}

/** Starts the microVM; resolves with the reason when it had to leave the memory aside. */
async function startFrom(
  deps: StartDeps,
  sandbox: Sandbox,
  generationId: GenerationId | undefined,
  isCold: boolean,
): Promise<string | undefined> {
  const { generations, disks } = deps;
  if (generationId === undefined) {
    // It never paused, but its last disk layer is still there: what reached the disk is not lost.
    const remains = remainsOf(sandbox.record);
    if (!remains)
      throw new AppError(
        'invalid_state',
        'the sandbox has nothing to start from: it never paused, and its disk is gone',
      );
    await disks.freeze(remains.disk);
    const { diskGenerationId } = remains;
    await bootMicroVm(deps, sandbox, remains.disk, diskGenerationId === undefined ? {} : { diskGenerationId });
    return 'it had no saved generation: started from its disk as the lost microVM left it';
  }
  const manifest = generations.get(generationId);
  if (!manifest) throw new AppError('not_found', `there is no generation ${generationId} on this host`);
  const mismatches = isCold ? ['a cold start was asked for'] : await findRestoreMismatches(deps, manifest);
  if (mismatches.length === 0) {
    await restoreMicroVm(deps, sandbox, await phase('open', () => openMemory(deps, generationId)));
    return undefined;
  }
  const { disk } = await phase('open', () => generations.open(generationId, { need: 'disk' }));
  await bootMicroVm(deps, sandbox, disk, { diskGenerationId: generationId });
  if (manifest.memory.kind === 'none')
    return 'the guest agent did not answer when it was paused: stopped hard, started from its disk';
  return `started from its disk, memory left aside: ${mismatches.join('; ')}`;
}

function asOptionalGeneration(id: string | undefined): GenerationId | undefined {
  return id === undefined ? undefined : asId('generation', id);
}
