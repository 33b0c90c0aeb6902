import { AppError, asId, checkSandboxSizes, errorText, type GenerationId, type StartPath } from '@aviary/core';
import type { HostTemplate } from '../templates/host-template.ts';
import { resolveTemplate } from '../templates/resolve-template.ts';
import { releaseSandbox } from './destroy-sandbox.ts';
import { type NewSandbox, newRecord } from './new-record.ts';
import { openForRestore } from './resume-sandbox.ts';
import type { SandboxContext } from './sandbox-context.ts';
import type { RunningParts, Sandbox } from './sandbox-registry.ts';
import { bootMicroVm, guestIdentity, restoreMicroVm } from './start-micro-vm.ts';
import { watchExit } from './watch-exit.ts';

/** Longest a warm guest may take to its identity; a restore is tried after it. */
const warmTimeoutMs = 15_000;

export interface CreateSandboxOptions extends Omit<NewSandbox, 'intent' | 'generationId' | 'isInternal'> {
  operationId: string;
}

/**
 * Creates a sandbox and resolves when it runs and its guest answers. Asking again with the same operation id answers the same
 * sandbox. On failure nothing is left behind: no record, no file, no process. Throws `invalid_request`, `not_found`
 * (template), `already_exists`, `no_capacity`, `disk_full`.
 */
export function createSandbox(context: SandboxContext, options: CreateSandboxOptions): Promise<Sandbox> {
  checkSandboxSizes(options);
  const { registry, faults, warmPool } = context;
  return registry.lock(options.sandboxId, async () => {
    const existing = registry.find(options.sandboxId);
    if (existing) {
      if (existing.record.lastOperationId === options.operationId) return existing;
      throw new AppError('already_exists', 'a sandbox with this id is on this host already');
    }
    const template = resolveTemplate(context, options.template);
    const { operationId, ...asked } = options;
    const intent = { operationId, kind: 'create' } as const;
    const defaultUser = asked.defaultUser || 'user';
    const sandbox = registry.add(newRecord(context, { ...asked, defaultUser, intent }));
    try {
      await registry.save(sandbox);
      await faults.hit('create.before-slot');
      const startPath = await warmPool.duringStart(() => startNew(context, sandbox, template));
      await faults.hit('create.before-running');
      delete sandbox.record.intent;
      const now = registry.clock.now();
      await registry.save(sandbox, {
        state: 'running',
        startPath,
        lastOperationId: options.operationId,
        startedAtMs: now,
        lastActiveAtMs: now,
      });
      await faults.hit('create.after-running');
    } catch (error) {
      await releaseSandbox(context, sandbox).catch((releaseError: unknown) => {
        context.logger.error(
          { sandboxId: options.sandboxId, error: errorText(releaseError) },
          'cannot undo a failed create; the next start of the agent will',
        );
      });
      throw error;
    }
    if (sandbox.running) watchExit(context, sandbox, sandbox.running.vm);
    const { startPath = '', generationId } = sandbox.record;
    await registry.events.push('sandbox.started', sandbox.record, {
      start_path: startPath,
      ...(generationId === undefined ? {} : { generation_id: generationId }),
    });
    return sandbox;
  });
}

/** Starts a new sandbox the fastest way there is: a warm microVM, its template's saved state, or one made now by booting. */
async function startNew(context: SandboxContext, sandbox: Sandbox, template: HostTemplate): Promise<StartPath> {
  const { record } = sandbox;
  if (template.kind === 'snapshot') {
    await startFromSnapshot(context, sandbox, template.generationId);
    return 'restore';
  }
  const size = { template, vcpus: record.vcpus, memoryMib: record.memoryMib, diskMib: record.diskMib };
  const known = context.bootSnapshots.find(context, size);
  if (known && (await takeWarm(context, sandbox, known))) return 'warm_pool';
  let generationId: GenerationId;
  let isNew: boolean;
  try {
    ({ generationId, isNew } = await context.bootSnapshots.ensure(context, size));
    context.warmPool.want(generationId);
  } catch (error) {
    // A guest that cannot be saved can still be booted; one that cannot be booted fails here again, with its own reason.
    if (error instanceof AppError && (error.code === 'disk_full' || error.code === 'no_capacity')) throw error;
    context.logger.warn({ error: errorText(error) }, 'no boot snapshot, booting the sandbox itself');
    await bootMicroVm(context, sandbox, template.disk);
    return 'cold_boot';
  }
  try {
    await restoreMicroVm(context, sandbox, await openForRestore(context, generationId));
    return isNew ? 'cold_boot' : 'restore';
  } catch (error) {
    if (!(error instanceof AppError) || error.code !== 'integrity') throw error;
    // A damaged boot snapshot is of no value to anybody: boot, and let the next create make a new one.
    context.logger.error({ generationId, error: errorText(error) }, 'boot snapshot is damaged, dropping it');
    await context.bootSnapshots.drop(context, generationId);
    await bootMicroVm(context, sandbox, template.disk);
    return 'cold_boot';
  }
}

/** The sizes of a saved guest are baked into it: asking for others is a mistake to be told, not ignored. */
async function startFromSnapshot(context: SandboxContext, sandbox: Sandbox, generationId: GenerationId): Promise<void> {
  const { record } = sandbox;
  const generation = await openForRestore(context, generationId);
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
  record.generationId = asId('generation', generation.manifest.id);
  await restoreMicroVm(context, sandbox, generation);
}

/** Makes a warm microVM this sandbox's own: its record, then its identity. False when there is none, or it failed. */
async function takeWarm(context: SandboxContext, sandbox: Sandbox, generationId: GenerationId): Promise<boolean> {
  const { registry, warmPool, logger } = context;
  const warm = await warmPool.take(context, generationId);
  if (!warm) return false;
  const { record } = sandbox;
  const { homeId, slotIndex, vmm, disk, memory, diskGenerationId, hostToken } = warm.record;
  if (slotIndex === undefined || !vmm || !disk || !memory) throw new Error('a warm microVM lacks a part');
  Object.assign(record, { homeId, slotIndex, vmm, disk, memory, ...(diskGenerationId ? { diskGenerationId } : {}) });
  sandbox.running = warm.running;
  delete (warm as Sandbox).running;
  try {
    await goOnAs(context, sandbox as Sandbox & { running: RunningParts }, hostToken);
    await registry.remove(warm.record.sandboxId);
    return true;
  } catch (error) {
    logger.warn(
      { sandboxId: record.sandboxId, error: errorText(error) },
      'a warm microVM did not start, restoring instead',
    );
    await releaseSandbox(context, {
      record: { ...warm.record, ...(vmm ? { vmm } : {}) },
      openStreams: 0,
      ...(sandbox.running ? { running: sandbox.running } : {}),
    });
    delete sandbox.running;
    for (const name of ['slotIndex', 'vmm', 'disk', 'memory', 'diskGenerationId'] as const) delete record[name];
    record.homeId = record.sandboxId;
    return false;
  }
}

/** Lets a warm guest go on as this sandbox, while its record is written. */
async function goOnAs(
  { registry }: SandboxContext,
  sandbox: Sandbox & { running: RunningParts },
  hostToken: string,
): Promise<void> {
  const { record, running } = sandbox;
  const goOn = async () => {
    running.guest.useTokens({ hostToken, accessToken: record.accessToken });
    await running.vm.resume();
    await running.guest.init(guestIdentity(record), { hostToken: record.hostToken, timeoutMs: warmTimeoutMs });
  };
  await Promise.all([registry.save(sandbox), goOn()]);
}
