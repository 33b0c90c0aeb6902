import { AppError, asId, errorText, type SandboxId } from '@aviary/core';
import { Semaphore } from '@aviary/service-kit';
import type { OpenedGeneration } from '../generations/generation-reader.ts';
import type { GenerationManifest } from '../generations/manifest.ts';
import { checkpoint } from './checkpoint-sandbox.ts';
import { releaseSandbox } from './destroy-sandbox.ts';
import { failureReason } from './failure-reason.ts';
import { newRecord } from './new-record.ts';
import { openForRestore } from './resume-sandbox.ts';
import type { SandboxContext } from './sandbox-context.ts';
import type { SandboxRecord } from './sandbox-record.ts';
import type { Sandbox } from './sandbox-registry.ts';
import { restoreMicroVm } from './start-micro-vm.ts';
import { watchExit } from './watch-exit.ts';

/** Copies restored at once: more would only wait for the processors. */
const forkConcurrency = 4;

export interface ForkOptions {
  operationId: string;
  sandboxId: SandboxId;
  targets: readonly SandboxId[];
  timeoutSec: number;
}

export interface ForkResult {
  sandboxId: SandboxId;
  sandbox?: Sandbox;
  /** Why this copy failed; the others are not affected. */
  error?: string;
}

/** Starts copies of a running sandbox's live state (it goes on) or of a paused one's. Asked again with the same id, starts only what is missing. */
export async function forkSandbox(
  context: SandboxContext,
  options: ForkOptions,
): Promise<{ results: ForkResult[]; generation: GenerationManifest }> {
  const { registry, generations } = context;
  // Copies that wait for their turn name the generation nowhere yet, and the source may be deleted meanwhile.
  using held = new DisposableStack();
  const done = options.targets
    .map((id) => registry.find(id))
    .find((target) => target?.record.lastOperationId === options.operationId);
  const generation = await registry.lock(options.sandboxId, async () => {
    const source = registry.get(options.sandboxId);
    const saved = done?.record.diskGenerationId ?? (source.record.state === 'paused' && source.record.generationId);
    const { operationId } = options;
    const running = () => registry.getRunning(options.sandboxId);
    const id = saved || asId('generation', (await checkpoint(context, running(), { operationId, cause: 'fork' })).id);
    held.use(generations.hold(id));
    // One copy starts soonest from what there is; several share the memory of one image.
    if (options.targets.length > 1) await generations.ensureFullImage(id);
    return openForRestore(context, id);
  });
  const source = registry.get(options.sandboxId).record;
  const semaphore = new Semaphore(forkConcurrency);
  const results = await Promise.all(
    options.targets.map((sandboxId) =>
      semaphore.run(async (): Promise<ForkResult> => {
        try {
          return { sandboxId, sandbox: await startCopy(context, source, generation, { ...options, sandboxId }) };
        } catch (error) {
          return { sandboxId, error: failureReason(error) };
        }
      }),
    ),
  );
  return { results, generation: generation.manifest };
}

/** Starts a new sandbox from a generation of another's. On failure nothing of it is left. */
function startCopy(
  context: SandboxContext,
  source: SandboxRecord,
  generation: OpenedGeneration,
  { operationId, sandboxId, timeoutSec }: { operationId: string; sandboxId: SandboxId; timeoutSec: number },
): Promise<Sandbox> {
  const { registry, faults } = context;
  return registry.lock(sandboxId, async () => {
    const existing = registry.find(sandboxId);
    if (existing?.record.lastOperationId === operationId) return existing;
    if (existing) throw new AppError('already_exists', 'a sandbox with this id is on this host already');
    const { vcpus, memoryMib, diskMib, id } = generation.manifest;
    const { teamId, template, defaultUser, envs } = source;
    const sandbox = registry.add(
      newRecord(context, {
        sandboxId,
        teamId,
        template,
        vcpus,
        memoryMib,
        diskMib,
        timeoutSec,
        defaultUser,
        envs,
        intent: { operationId, kind: 'create' },
        generationId: asId('generation', id),
      }),
    );
    try {
      await registry.save(sandbox);
      await faults.hit('fork.before-restore');
      await restoreMicroVm(context, sandbox, generation);
      delete sandbox.record.intent;
      await registry.save(sandbox, {
        state: 'running',
        startPath: 'restore',
        lastOperationId: operationId,
        startedAtMs: registry.clock.now(),
        lastActiveAtMs: registry.clock.now(),
      });
    } catch (error) {
      await releaseSandbox(context, sandbox).catch((releaseError: unknown) => {
        context.logger.error(
          { sandboxId, error: errorText(releaseError) },
          'cannot undo a failed copy; the next start of the agent will',
        );
      });
      throw error;
    }
    if (sandbox.running) watchExit(context, sandbox, sandbox.running.vm);
    await registry.events.push('sandbox.started', sandbox.record, {
      start_path: 'restore',
      ...(sandbox.record.generationId === undefined ? {} : { generation_id: sandbox.record.generationId }),
    });
    return sandbox;
  });
}
