import { AppError, asId, type ErrorCode, errorText, type SandboxId, toAppError } from '@aviary/core';
import { fromNodeError, Semaphore } from '@aviary/service-kit';
import type { OpenedGeneration } from '../generations/generation-reader.ts';
import type { GenerationManifest } from '../generations/manifest.ts';
import { collectPhases, type Phase } from '../phases.ts';
import { launchOf, type SandboxFacts } from '../registry/sandbox-record.ts';
import type { Sandbox } from '../registry/sandbox-registry.ts';
import { machineFacts } from '../starts/machine-facts.ts';
import { newRecord } from '../starts/new-record.ts';
import { openForRestore } from '../starts/open-for-restore.ts';
import { releaseSandbox } from '../starts/release-sandbox.ts';
import type { StartDeps } from '../starts/start-deps.ts';
import { restoreMicroVm } from '../starts/start-micro-vm.ts';
import { type CheckpointDeps, checkpoint } from './checkpoint-sandbox.ts';
import { failureReason } from './failure-reason.ts';
import { watchExit } from './watch-exit.ts';

type Deps = StartDeps & CheckpointDeps;

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
  /** Of starting this copy. */
  phases?: Phase[];
  /** Why this copy failed; the others are not affected. */
  error?: { code: ErrorCode; reason: string };
}

/** Starts copies of a running sandbox's live state (it goes on) or of a paused one's. Asked again with the same id, starts only what is missing. */
export async function forkSandbox(
  deps: Deps,
  options: ForkOptions,
): Promise<{ results: ForkResult[]; generation: GenerationManifest }> {
  const { registry, generations } = deps;
  // Copies that wait for their turn name the generation nowhere yet, and the source may be deleted meanwhile.
  using held = new DisposableStack();
  const done = options.targets
    .map((id) => registry.find(id))
    .find((target) => target?.record.lastOperationId === options.operationId);
  const generation = await registry.lock(options.sandboxId, async () => {
    const source = registry.get(options.sandboxId);
    const started = done && launchOf(done.record).run?.diskGenerationId;
    const saved = started ?? (source.record.state === 'paused' && source.record.generationId);
    const { operationId } = options;
    const running = () => registry.getRunning(options.sandboxId);
    const id = saved || asId('generation', (await checkpoint(deps, running(), { operationId, cause: 'fork' })).id);
    held.use(generations.hold({ generationId: id }));
    // One copy starts soonest from what there is; several share the memory of one image.
    if (options.targets.length > 1) await generations.ensureFullImage(id);
    return openForRestore(deps, id);
  });
  const source = registry.get(options.sandboxId).record;
  const semaphore = new Semaphore(forkConcurrency);
  const results = await Promise.all(
    options.targets.map((sandboxId) =>
      semaphore.run(async (): Promise<ForkResult> => {
        try {
          const start = () => startCopy(deps, source, generation, { ...options, sandboxId });
          const { result: sandbox, phases } = await collectPhases(start);
          return { sandboxId, sandbox, phases };
        } catch (error) {
          const { code } = toAppError(fromNodeError(error));
          return { sandboxId, error: { code, reason: failureReason(error) } };
        }
      }),
    ),
  );
  return { results, generation: generation.manifest };
}

/** Starts a new sandbox from a generation of another's. On failure nothing of it is left. */
function startCopy(
  deps: Deps,
  source: SandboxFacts,
  generation: OpenedGeneration,
  { operationId, sandboxId, timeoutSec }: { operationId: string; sandboxId: SandboxId; timeoutSec: number },
): Promise<Sandbox> {
  const { registry, faults } = deps;
  return registry.lock(sandboxId, async () => {
    const existing = registry.find(sandboxId);
    if (existing?.record.lastOperationId === operationId) return existing;
    if (existing) throw new AppError('already_exists', 'a sandbox with this id is on this host already');
    const { vcpus, memoryMib, diskMib, id } = generation.manifest;
    const { teamId, template, defaultUser, envs } = source;
    const sandbox = await registry.create(
      newRecord(deps, {
        ...{ sandboxId, operationId, teamId, template, vcpus, memoryMib, diskMib, timeoutSec, defaultUser, envs },
        generationId: asId('generation', id),
      }),
    );
    try {
      await faults.hit('fork.before-restore');
      await restoreMicroVm(deps, sandbox, generation);
      await registry.transition(sandbox, {
        ...{ kind: 'started', operationId, startPath: 'restore', reason: '' },
        ...{ metadata: machineFacts(deps), atMs: registry.clock.now() },
      });
    } catch (error) {
      await releaseSandbox(deps, sandbox).catch((releaseError: unknown) => {
        deps.logger.error(
          { sandboxId, error: errorText(releaseError) },
          'cannot undo a failed copy; the next start of the agent will',
        );
      });
      throw error;
    }
    watchExit(deps, sandbox);
    return sandbox;
  });
}
