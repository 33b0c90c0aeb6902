import { rm } from 'node:fs/promises';
import { asId, errorText, type GenerationCause, type SandboxId } from '@aviary/core';
import { waitFor } from '@aviary/service-kit';
import { fullMemoryPart, type GenerationManifest } from '../generations/manifest.ts';
import type { VmExit } from '../vmm/vmm.ts';
import { failureReason } from './failure-reason.ts';
import { releaseMicroVm } from './release-micro-vm.ts';
import type { SandboxContext } from './sandbox-context.ts';
import type { SandboxRecord } from './sandbox-record.ts';
import type { RunningParts, Sandbox } from './sandbox-registry.ts';
import { beginGeneration, diskPartName, saveGeneration } from './save-generation.ts';
import { withStoppedGuest } from './stopped-guest.ts';
import { markLost } from './watch-exit.ts';

/** How long streams and transfers may finish before a pause cuts them. */
const drainMs = 2_000;
/** How long a VMM that answers no more may take to be seen as gone. */
const exitNoticeMs = 5_000;

export interface PauseOptions {
  sandboxId: SandboxId;
  operationId: string;
  cause: Extract<GenerationCause, 'pause' | 'auto_pause' | 'host_shutdown'>;
  /** Stop a guest that does not answer as well: its disk is saved as after a power cut, its memory is not. */
  isForced?: boolean;
  /** How long the guest may take to freeze; by default as long as its slow disk may need, or a few seconds when forced. */
  freezeTimeoutMs?: number;
  /** Called once the generation is durable: from then on the sandbox is paused, whatever happens. What it held is still being freed. */
  onPaused?: () => void;
}

/** Why a sandbox is paused, for people; empty when its user asked for it. */
function pauseReason({ cause, memory }: GenerationManifest, { timeoutSec }: SandboxRecord): string {
  if (memory.kind === 'none')
    return 'the guest agent did not answer: stopped hard; its disk was saved, its memory was not';
  if (cause === 'auto_pause') return `paused after ${timeoutSec} s without activity`;
  return cause === 'host_shutdown' ? 'paused because its host was asked to pause all' : '';
}

/**
 * Saves a sandbox as a new generation and frees its microVM. Resolves when the generation is durable and everything is freed.
 * When it throws, the sandbox runs on and is usable; only when its microVM is gone is it `error`, its last generation kept. Was it durable
 * already, it is paused, and the next command on it frees the rest.
 */
export function pauseSandbox(context: SandboxContext, { sandboxId, ...options }: PauseOptions): Promise<Sandbox> {
  const { registry } = context;
  return registry.lock(sandboxId, async () => {
    const known = registry.get(sandboxId);
    if (known.record.lastOperationId === options.operationId) return known;
    if (await finishCommittedPause(context, known)) return known;
    const sandbox = registry.getRunning(sandboxId);
    await pauseRunning(context, sandbox, options);
    return sandbox;
  });
}

/**
 * As {@link pauseSandbox}, but resolves as soon as the sandbox is paused. Freeing its microVM goes on, and the next command on it waits for
 * that; if it fails, the next resume, or agent, tries again.
 */
export function pauseSandboxFreeLater(context: SandboxContext, options: PauseOptions): Promise<Sandbox> {
  return new Promise((resolve, reject) => {
    let isPaused = false;
    const onPaused = () => {
      isPaused = true;
      resolve(context.registry.get(options.sandboxId));
    };
    pauseSandbox(context, { ...options, onPaused }).then(resolve, (error: unknown) => {
      const { sandboxId } = options;
      if (isPaused)
        context.logger.error({ sandboxId, error: errorText(error) }, 'paused, but its microVM is not freed');
      else reject(error);
    });
  });
}

/** The pause itself, of a sandbox that runs. Resolves with what it saved. Under its lock; throws as {@link pauseSandbox} does. */
export async function pauseRunning(
  context: SandboxContext,
  sandbox: Sandbox & { running: RunningParts },
  { operationId, cause, onPaused, ...stopping }: Omit<PauseOptions, 'sandboxId'>,
): Promise<GenerationManifest> {
  const { registry, faults } = context;
  let generation: GenerationManifest;
  try {
    await using draft = await beginGeneration(context, sandbox);
    const intent = { operationId, kind: 'pause', generationId: asId('generation', draft.id) } as const;
    await registry.save(sandbox, { state: 'pausing', reason: '', intent });
    await faults.hit('pause.after-journal');
    await drain(sandbox);
    sandbox.running.guest.attached.endAll('paused');
    generation = await withStoppedGuest(
      context,
      sandbox,
      (stop) => saveGeneration(context, sandbox, { draft, cause, stop, isEnding: true }),
      stopping,
    );
  } catch (error) {
    await resumeAfterFailure(context, sandbox, failureReason(error));
    throw error;
  }
  await faults.hit('pause.after-commit');
  await finishPause(context, sandbox, { generation, operationId, onPaused });
  return generation;
}

/**
 * Finishes a pause whose generation is durable but whose end failed, e.g. because the VMM could not be killed. The saved files are
 * the guest's state from the commit on, so it must never go on. False when there is no such pause. Under the sandbox's lock.
 */
export async function finishCommittedPause(context: SandboxContext, sandbox: Sandbox): Promise<boolean> {
  const { intent } = sandbox.record;
  if (intent?.kind !== 'pause' || intent.generationId === undefined) return false;
  const generation = context.generations.get(intent.generationId);
  if (!generation) return false;
  await finishPause(context, sandbox, { generation, operationId: intent.operationId });
  return true;
}

/** The second half of a pause, once the generation is durable: also what a restarted agent does for an interrupted one. */
async function finishPause(
  context: SandboxContext,
  sandbox: Sandbox,
  {
    generation,
    operationId,
    onPaused,
  }: { generation: GenerationManifest; operationId: string; onPaused?: (() => void) | undefined },
): Promise<void> {
  const { registry, generations, faults, logger } = context;
  const { record } = sandbox;
  const { disk, memory } = record;
  // The journal says so at the end: until then it names the generation, and whoever reads it comes here again.
  Object.assign(record, {
    state: 'paused',
    reason: pauseReason(generation, record),
    lastOperationId: operationId,
    generationId: asId('generation', generation.id),
  } satisfies Partial<SandboxRecord>);
  const released = releaseMicroVm(context, sandbox);
  onPaused?.();
  await released;
  await faults.hit('pause.after-release');
  if (disk) await generations.releaseSource(generation.id, { part: diskPartName, path: disk.path });
  if (memory?.mapping === 'shared' && generation.memory.kind === 'full')
    await generations.releaseSource(generation.id, { part: fullMemoryPart, path: memory.path });
  await removeRunFiles(context, sandbox);
  delete record.intent;
  await registry.save(sandbox).catch((error: unknown) => {
    // The journal still names the generation that the pause was making: whoever reads it finishes the pause.
    logger.warn({ sandboxId: record.sandboxId, error: errorText(error) }, 'paused, its record not yet');
  });
  const event =
    generation.cause === 'auto_pause' || generation.cause === 'host_shutdown'
      ? 'sandbox.auto_paused'
      : 'sandbox.paused';
  await registry.events
    .push(event, record, {
      generation_id: record.generationId ?? '',
      ...(record.reason ? { reason: record.reason } : {}),
    })
    .catch((error: unknown) =>
      logger.warn({ sandboxId: record.sandboxId, error: errorText(error) }, 'paused, and the control plane not told'),
    );
  if (isWorthMerging(generation)) context.prepareResume(record.generationId);
}

/**
 * Memory diffs from this size on are merged with their image in the background. Below it, reading a diff at each resume and writing it
 * again at each pause costs less than copying the image once.
 */
const worthMergingBytes = 64 * 1024 * 1024;

function isWorthMerging({ memory, parts }: GenerationManifest): boolean {
  return memory.kind === 'diff' && (parts[memory.part]?.bytes ?? 0) >= worthMergingBytes;
}

/** Lets what uses the guest finish for a moment. What is left after that is cut by the pause. */
async function drain(sandbox: Sandbox): Promise<void> {
  await waitFor({ what: 'the end of all streams', timeoutMs: drainMs }, () => sandbox.openStreams === 0).catch(
    () => undefined,
  );
}

/** After a failed pause: running again, with the reason, or `error` when the microVM did not survive. */
async function resumeAfterFailure(context: SandboxContext, sandbox: Sandbox, reason: string): Promise<void> {
  const { registry, logger } = context;
  const { running, record } = sandbox;
  delete record.intent;
  const exit = running && (await findExit(context, running));
  if (!running || exit) {
    await markLost(context, sandbox, exit?.reason ?? 'it was gone');
    return;
  }
  await registry
    .save(sandbox, { state: 'running', reason: `the last pause failed: ${reason}` })
    .then(() => registry.events.push('sandbox.pause_failed', record, { reason }))
    .catch((error: unknown) => {
      // The caller is told why the pause failed; a journal that still says `pausing` is put right by the next agent.
      logger.warn({ sandboxId: record.sandboxId, error: errorText(error) }, 'running again, its record not yet');
    });
}

/** How the microVM ended, when it did: one that still answers has not. */
async function findExit({ registry }: SandboxContext, { vm }: RunningParts): Promise<VmExit | undefined> {
  const doesAnswer = await vm.resume().then(
    () => true,
    () => false,
  );
  if (doesAnswer) return undefined;
  const expired = new AbortController();
  try {
    return await Promise.race([
      vm.exited,
      registry.clock.sleep(exitNoticeMs, expired.signal).then(
        () => undefined,
        () => undefined,
      ),
    ]);
  } finally {
    expired.abort();
  }
}

/** Removes the run's own names of disk and memory: the generation has them. */
export async function removeRunFiles({ layout }: SandboxContext, { record }: Sandbox): Promise<void> {
  await rm(layout.sandbox(record.homeId), { recursive: true, force: true });
  record.homeId = record.sandboxId;
  delete record.disk;
  delete record.memory;
  delete record.diskGenerationId;
}
