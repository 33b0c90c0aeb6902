import { AppError, asId, errorText, type GenerationId, type SandboxId } from '@aviary/core';
import type { OpenedGeneration } from '../generations/generation-reader.ts';
import { endRunForRewind } from './end-run-for-rewind.ts';
import { failureReason } from './failure-reason.ts';
import { machineFacts } from './machine-facts.ts';
import { finishCommittedPause, removeRunFiles } from './pause-sandbox.ts';
import { releaseMicroVm } from './release-micro-vm.ts';
import { findRestoreMismatches } from './restore-fit.ts';
import type { SandboxContext } from './sandbox-context.ts';
import type { Sandbox } from './sandbox-registry.ts';
import { bootMicroVm, newToken, restoreMicroVm } from './start-micro-vm.ts';
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
export function resumeSandbox(context: SandboxContext, options: ResumeOptions): Promise<Sandbox> {
  const { registry, generations, faults, logger } = context;
  const { sandboxId, operationId } = options;
  return registry.lock(sandboxId, async () => {
    const sandbox = registry.get(sandboxId);
    const { record } = sandbox;
    if (record.lastOperationId === operationId) return sandbox;
    await finishCommittedPause(context, sandbox);
    // Saving what runs makes one generation more, which must not push out the one to go back to.
    using _held = options.generationId === undefined ? undefined : generations.hold(options.generationId);
    let unsaved: string | undefined;
    if (record.state === 'running' && options.generationId !== undefined) {
      const { generationId, isCold } = options;
      unsaved = await endRunForRewind(context, sandbox, { generationId, isCold, operationId });
    } else if (record.state !== 'paused' && record.state !== 'error') {
      throw new AppError('invalid_state', `the sandbox is ${record.state}, not paused`, {
        details: { state: record.state },
      });
    }
    const generationId =
      options.generationId ?? asOptionalGeneration(generations.current(sandboxId)) ?? record.generationId;
    const before = { state: record.state, reason: record.reason };
    try {
      await registry.save(sandbox, {
        state: 'resuming',
        reason: '',
        run: record.run + 1,
        timeoutSec: options.timeoutSec,
        hostToken: newToken(),
        accessToken: newToken(),
        intent: { operationId, kind: 'resume', ...(generationId === undefined ? {} : { generationId }) },
      });
      await faults.hit('resume.after-journal');
      const fallback = await startFrom(context, sandbox, generationId, options.isCold);
      await faults.hit('resume.before-running');
      if (options.generationId !== undefined) await generations.setCurrent(sandboxId, options.generationId);
      delete record.intent;
      const now = registry.clock.now();
      await registry.save(sandbox, {
        state: 'running',
        reason:
          fallback ??
          unsaved ??
          (before.state === 'error' ? `came back from its last saved state; ${before.reason}` : ''),
        startPath: fallback === undefined ? 'resume' : 'cold_fallback',
        lastOperationId: operationId,
        startedAtMs: now,
        lastActiveAtMs: now,
        lastActivity: 'start',
        metadata: machineFacts(context),
        ...(generationId === undefined ? {} : { generationId }),
      });
    } catch (error) {
      delete record.intent;
      const reason = failureReason(error);
      // Each step is tried, and none hides why the resume failed: a journal that still says `resuming` is undone by the next agent.
      for (const step of [
        () => releaseMicroVm(context, sandbox),
        () => (before.state === 'paused' ? removeRunFiles(context, sandbox) : Promise.resolve()),
        () => registry.save(sandbox, { ...before, reason: `the last resume failed: ${reason}` }),
        () => registry.events.push('sandbox.resume_failed', record, { reason }),
      ]) {
        await step().catch((undoError: unknown) =>
          logger.error({ sandboxId, error: errorText(undoError) }, 'cannot undo all of a failed resume'),
        );
      }
      throw error;
    }
    if (sandbox.running) watchExit(context, sandbox, sandbox.running.vm);
    await registry.events.push('sandbox.resumed', record, {
      start_path: record.startPath ?? 'resume',
      ...(record.generationId === undefined ? {} : { generation_id: record.generationId }),
      reason: record.reason,
    });
    return sandbox;
  });
}

/** Starts the microVM; resolves with the reason when it had to leave the memory aside. */
async function startFrom(
  context: SandboxContext,
  sandbox: Sandbox,
  generationId: GenerationId | undefined,
  isCold: boolean,
): Promise<string | undefined> {
  const { generations } = context;
  if (generationId === undefined) {
    // It never paused, but its last disk layer is still there: what reached the disk is not lost.
    const { disk } = sandbox.record;
    if (!disk)
      throw new AppError(
        'invalid_state',
        'the sandbox has nothing to start from: it never paused, and its disk is gone',
      );
    await context.disks.freeze(disk);
    await bootMicroVm(context, sandbox, disk);
    return 'it had no saved generation: started from its disk as the lost microVM left it';
  }
  const manifest = generations.get(generationId);
  if (!manifest) throw new AppError('not_found', `there is no generation ${generationId} on this host`);
  const mismatches = isCold ? ['a cold start was asked for'] : await findRestoreMismatches(context, manifest);
  if (mismatches.length === 0) {
    await restoreMicroVm(context, sandbox, await openMemory(context, generationId));
    return undefined;
  }
  const { disk } = await generations.open(generationId, { need: 'disk' });
  sandbox.record.diskGenerationId = generationId;
  await bootMicroVm(context, sandbox, disk);
  if (manifest.memory.kind === 'none')
    return 'the guest agent did not answer when it was paused: stopped hard, started from its disk';
  return `started from its disk, memory left aside: ${mismatches.join('; ')}`;
}

/** Opens a generation for restoring. Throws `integrity`, or `invalid_state` naming what differs on this host. */
export async function openForRestore(context: SandboxContext, generationId: GenerationId): Promise<OpenedGeneration> {
  const { generations } = context;
  const manifest = generations.get(generationId);
  if (!manifest) throw new AppError('not_found', `there is no generation ${generationId} on this host`);
  const mismatches = await findRestoreMismatches(context, manifest);
  if (mismatches.length > 0)
    throw new AppError('invalid_state', `cannot restore on this host: ${mismatches.join('; ')}`);
  return openMemory(context, generationId);
}

/** Opens a generation with memory that can be restored at once. */
async function openMemory({ generations }: SandboxContext, generationId: GenerationId): Promise<OpenedGeneration> {
  const opened = await generations.open(generationId, { need: 'memory' });
  if (generations.canRestore(opened)) return opened;
  await generations.ensureFullImage(generationId);
  return generations.open(generationId, { need: 'memory' });
}

function asOptionalGeneration(id: string | undefined): GenerationId | undefined {
  return id === undefined ? undefined : asId('generation', id);
}
