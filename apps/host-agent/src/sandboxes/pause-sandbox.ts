import { rm } from 'node:fs/promises';
import { asId, errorText, type GenerationCause, type SandboxId } from '@aviary/core';
import { waitFor } from '@aviary/service-kit';
import type { GenerationStore } from '../generations/generation-store.ts';
import { fullMemoryPart, type GenerationManifest } from '../generations/manifest.ts';
import type { HostLayout } from '../layout.ts';
import { phase } from '../phases.ts';
import { launchOf, type SandboxFacts } from '../registry/sandbox-record.ts';
import type { RunningParts, RunningSandbox, Sandbox, SandboxRegistry } from '../registry/sandbox-registry.ts';
import { findExit } from '../saving/find-exit.ts';
import { beginGeneration, type SaveDeps, saveGeneration } from '../saving/save-generation.ts';
import { withStoppedGuest } from '../saving/stopped-guest.ts';
import { type ReleaseDeps, releaseMicroVm } from '../starts/release-micro-vm.ts';
import { failureReason } from './failure-reason.ts';
import type { SandboxServices } from './sandbox-services.ts';
import { markLost } from './watch-exit.ts';

/** How long streams and transfers may finish before a pause cuts them. */
const drainMs = 2_000;

export interface PauseDeps extends SaveDeps, ReleaseDeps, Pick<SandboxServices, 'preparer'> {
  registry: SandboxRegistry;
  generations: GenerationStore;
}

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
function pauseReason({ cause, memory }: GenerationManifest, { timeoutSec }: SandboxFacts): string {
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
export function pauseSandbox(deps: PauseDeps, { sandboxId, ...options }: PauseOptions): Promise<Sandbox> {
  const { registry } = deps;
  return registry.lock(sandboxId, async () => {
    const known = registry.get(sandboxId);
    if (known.record.lastOperationId === options.operationId) return known;
    if (await finishCommittedPause(deps, known)) return known;
    const sandbox = registry.getRunning(sandboxId);
    await pauseRunning(deps, sandbox, options);
    return sandbox;
  });
}

/**
 * As {@link pauseSandbox}, but resolves as soon as the sandbox is paused. Freeing its microVM goes on, and the next command on it waits for
 * that; if it fails, the next resume, or agent, tries again.
 */
export function pauseSandboxFreeLater(deps: PauseDeps, options: PauseOptions): Promise<Sandbox> {
  return new Promise((resolve, reject) => {
    let isPaused = false;
    const onPaused = () => {
      isPaused = true;
      resolve(deps.registry.get(options.sandboxId));
    };
    pauseSandbox(deps, { ...options, onPaused }).then(resolve, (error: unknown) => {
      const { sandboxId } = options;
      if (isPaused) deps.logger.error({ sandboxId, error: errorText(error) }, 'paused, but its microVM is not freed');
      else reject(error);
    });
  });
}

/** The pause itself, of a sandbox that runs. Resolves with what it saved. Under its lock; throws as {@link pauseSandbox} does. */
export async function pauseRunning(
  deps: PauseDeps,
  sandbox: RunningSandbox,
  { operationId, cause, onPaused, ...stopping }: Omit<PauseOptions, 'sandboxId'>,
): Promise<GenerationManifest> {
  const { registry, faults } = deps;
  const { record, running } = sandbox;
  const { run } = record;
  let generation: GenerationManifest;
  try {
    await using draft = await beginGeneration(deps, record.sandboxId, run);
    const generationId = asId('generation', draft.id);
    await registry.transition(sandbox, { kind: 'pause_begun', operationId, generationId });
    await faults.hit('pause.after-journal');
    await phase('drain', () => drain(sandbox));
    running.guest.attached.endAll('paused');
    generation = await withStoppedGuest(
      deps,
      sandbox,
      (stop) => saveGeneration(deps, { record, run, running }, { draft, cause, stop, isEnding: true }),
      stopping,
    );
  } catch (error) {
    await runOnAfterFailure(deps, sandbox, { running, reason: failureReason(error) });
    throw error;
  }
  await faults.hit('pause.after-commit');
  await finishPause(deps, sandbox, { generation, onPaused });
  return generation;
}

/**
 * Finishes a pause whose generation is durable but whose end failed, e.g. because the VMM could not be killed, or the agent ended. The saved
 * files are the guest's state from the commit on, so it must never go on. False when there is no such pause. Under the sandbox's lock.
 */
export async function finishCommittedPause(deps: PauseDeps, sandbox: Sandbox): Promise<boolean> {
  const { record } = sandbox;
  const isPausing = record.state === 'pausing';
  if (!isPausing && !(record.state === 'paused' && record.freeing)) return false;
  const generation = deps.generations.get(isPausing ? record.pause.generationId : record.generationId);
  if (!generation) return false;
  await finishPause(deps, sandbox, { generation });
  return true;
}

/** The second half of a pause, once the generation is durable: also what a restarted agent does for an interrupted one. */
async function finishPause(
  deps: PauseDeps,
  sandbox: Sandbox,
  { generation, onPaused }: { generation: GenerationManifest; onPaused?: (() => void) | undefined },
): Promise<void> {
  const { registry, generations, faults, preparer } = deps;
  const { cause } = generation;
  if (sandbox.record.state === 'pausing')
    await registry.transition(sandbox, { kind: 'pause_committed', reason: pauseReason(generation, sandbox.record) });
  const { run } = launchOf(sandbox.record);
  const released = releaseMicroVm(deps, sandbox);
  onPaused?.();
  await released;
  await faults.hit('pause.after-release');
  if (run) await generations.releaseSource(generation.id, { part: generation.disk.part, path: run.disk.path });
  if (run?.memory.mapping === 'shared' && generation.memory.kind === 'full')
    await generations.releaseSource(generation.id, { part: fullMemoryPart, path: run.memory.path });
  await removeRunFiles(deps, sandbox);
  const isUnasked = cause === 'auto_pause' || cause === 'host_shutdown';
  await registry.transition(sandbox, { kind: 'run_freed', isUnasked });
  if (isWorthMerging(generation)) preparer.prepare(asId('generation', generation.id));
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
async function runOnAfterFailure(
  deps: PauseDeps,
  sandbox: Sandbox,
  { running, reason }: { running: RunningParts; reason: string },
): Promise<void> {
  const { registry } = deps;
  const exit = await findExit(registry.clock, running.vm);
  if (exit) return markLost(deps, sandbox, exit.reason);
  // One that failed before it was begun has changed nothing.
  if (sandbox.record.state !== 'pausing') return;
  await registry.transition(sandbox, { kind: 'pause_failed', reason: `the last pause failed: ${reason}` });
}

/** Removes the run's own names of disk and memory: the generation has them. */
export async function removeRunFiles({ layout }: { layout: HostLayout }, { record }: Sandbox): Promise<void> {
  await rm(layout.sandbox(launchOf(record).runDirectoryId), { recursive: true, force: true });
}
