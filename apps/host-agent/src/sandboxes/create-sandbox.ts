import { AppError, checkSandboxSizes, errorText, type GenerationId, type StartPath } from '@aviary/core';
import { allDone, fromNodeError } from '@aviary/service-kit';
import { phase } from '../phases.ts';
import { launchOf } from '../registry/sandbox-record.ts';
import type { RunningParts, Sandbox } from '../registry/sandbox-registry.ts';
import { machineFacts } from '../starts/machine-facts.ts';
import { type NewSandbox, newRecord } from '../starts/new-record.ts';
import { openForRestore } from '../starts/open-for-restore.ts';
import { releaseSandbox } from '../starts/release-sandbox.ts';
import type { StartDeps } from '../starts/start-deps.ts';
import { bootMicroVm, guestIdentity, restoreMicroVm } from '../starts/start-micro-vm.ts';
import type { HostTemplate } from '../templates/host-template.ts';
import { resolveTemplate } from '../templates/resolve-template.ts';
import type { SandboxServices } from './sandbox-services.ts';
import { watchExit } from './watch-exit.ts';

/** Longest a warm guest may take to its identity; a restore is tried after it. */
const warmTimeoutMs = 15_000;

export type CreateSandboxOptions = Omit<NewSandbox, 'generationId' | 'isInternal'>;

type Deps = StartDeps & Pick<SandboxServices, 'templates' | 'bootSnapshots' | 'warmPool'>;

/**
 * Creates a sandbox and resolves when it runs and its guest answers. Asking again with the same operation id answers the same
 * sandbox. On failure nothing is left behind: no record, no file, no process. Throws `invalid_request`, `not_found`
 * (template), `already_exists`, `no_capacity`, `disk_full`.
 */
export function createSandbox(deps: Deps, options: CreateSandboxOptions): Promise<Sandbox> {
  checkSandboxSizes(options);
  const { registry, faults, warmPool, logger } = deps;
  const { sandboxId, operationId } = options;
  return registry.lock(sandboxId, async () => {
    const existing = registry.find(sandboxId);
    if (existing) {
      if (existing.record.lastOperationId === operationId) return existing;
      throw new AppError('already_exists', 'a sandbox with this id is on this host already');
    }
    const template = resolveTemplate(deps, options.template);
    const defaultUser = options.defaultUser || 'user';
    const generation = template.kind === 'snapshot' ? { generationId: template.generationId } : {};
    const sandbox = await registry.create(newRecord(deps, { ...options, defaultUser, ...generation }));
    try {
      await faults.hit('create.before-slot');
      const startPath = await warmPool.duringStart(() => startNew(deps, sandbox, template));
      await faults.hit('create.before-running');
      await registry.transition(sandbox, {
        ...{ kind: 'started', operationId, startPath, reason: '' },
        ...{ metadata: machineFacts(deps), atMs: registry.clock.now() },
      });
      await faults.hit('create.after-running');
    } catch (error) {
      await releaseSandbox(deps, sandbox).catch((releaseError: unknown) => {
        logger.error(
          { sandboxId, error: errorText(releaseError) },
          'cannot undo a failed create; the next start of the agent will',
        );
      });
      throw error;
    }
    watchExit(deps, sandbox);
    return sandbox;
  });
}

/** Starts a new sandbox the fastest way there is: a warm microVM, its template's saved state, or one made now by booting. */
async function startNew(deps: Deps, sandbox: Sandbox, template: HostTemplate): Promise<StartPath> {
  const { bootSnapshots, warmPool, logger } = deps;
  const { vcpus, memoryMib, diskMib } = sandbox.record;
  if (template.kind === 'snapshot') {
    await startFromSnapshot(deps, sandbox, template.generationId);
    return 'restore';
  }
  const size = { template, vcpus, memoryMib, diskMib };
  const known = bootSnapshots.find(size);
  if (known && (await phase('warm', () => takeWarm(deps, sandbox, known)))) return 'warm_pool';
  let generationId: GenerationId;
  let isNew: boolean;
  try {
    ({ generationId, isNew } = await phase('boot_snapshot', () => bootSnapshots.ensure(size)));
    warmPool.want(generationId);
  } catch (error) {
    // A guest that cannot be saved can still be booted; one that cannot be booted fails here again, with its own reason.
    const known = fromNodeError(error);
    if (known instanceof AppError && (known.code === 'disk_full' || known.code === 'no_capacity')) throw known;
    logger.warn({ error: errorText(error) }, 'no boot snapshot, booting the sandbox itself');
    await bootMicroVm(deps, sandbox, template.disk);
    return 'cold_boot';
  }
  try {
    await restoreMicroVm(deps, sandbox, await openForRestore(deps, generationId));
    return isNew ? 'cold_boot' : 'restore';
  } catch (error) {
    if (!(error instanceof AppError) || error.code !== 'integrity') throw error;
    // A damaged boot snapshot is of no value to anybody: boot, and let the next create make a new one.
    logger.error({ generationId, error: errorText(error) }, 'boot snapshot is damaged, dropping it');
    await bootSnapshots.drop(generationId);
    await bootMicroVm(deps, sandbox, template.disk);
    return 'cold_boot';
  }
}

/** The sizes of a saved guest are baked into it: asking for others is a mistake to be told, not ignored. */
async function startFromSnapshot(deps: Deps, sandbox: Sandbox, generationId: GenerationId): Promise<void> {
  const { record } = sandbox;
  const generation = await openForRestore(deps, generationId);
  const { vcpus, memoryMib, diskMib } = generation.manifest;
  if (record.vcpus !== vcpus || record.memoryMib !== memoryMib || record.diskMib !== diskMib) {
    throw new AppError(
      'invalid_request',
      `the template has ${vcpus} vCPUs, ${memoryMib} MiB of memory and ${diskMib} MiB of disk; leave the sizes out`,
      {
        details: { field: 'template', vcpus, memory_mb: memoryMib, disk_size_mb: diskMib },
      },
    );
  }
  await restoreMicroVm(deps, sandbox, generation);
}

/** Makes a warm microVM this sandbox's own: its record, then its identity. False when there is none, or it failed. */
async function takeWarm(deps: Deps, sandbox: Sandbox, generationId: GenerationId): Promise<boolean> {
  const { registry, warmPool, logger } = deps;
  const warm = await warmPool.take(generationId);
  if (!warm) return false;
  const { sandboxId, launch, hostToken } = warm.record;
  const { running } = warm;
  sandbox.running = running;
  delete (warm as Sandbox).running;
  try {
    // While its record is written, the guest goes on as this sandbox.
    await allDone([
      () => registry.transition(sandbox, { kind: 'launched', run: launch.run }),
      () => identifyWarm(sandbox, running, hostToken),
    ]);
    await registry.remove(sandboxId);
    return true;
  } catch (error) {
    logger.warn(
      { sandboxId: sandbox.record.sandboxId, error: errorText(error) },
      'a warm microVM did not start, restoring instead',
    );
    delete sandbox.running;
    warm.running = running;
    await releaseSandbox(deps, warm);
    if (launchOf(sandbox.record).run) await registry.transition(sandbox, { kind: 'unlaunched' });
    return false;
  }
}

/** Lets a warm guest go on, and tells it who it is. `hostToken` is the one that it knows. */
async function identifyWarm({ record }: Sandbox, { guest, vm }: RunningParts, hostToken: string): Promise<void> {
  guest.useTokens({ hostToken, accessToken: record.accessToken });
  await vm.resume();
  await guest.init(guestIdentity(record), { hostToken: record.hostToken, timeoutMs: warmTimeoutMs });
}
