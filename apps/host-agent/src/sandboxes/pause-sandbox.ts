import { rm } from 'node:fs/promises';
import { asId, errorText, type SandboxId } from '@aviary/core';
import { waitFor } from '@aviary/service-kit';
import type { GenerationCause, GenerationManifest } from '../generations/manifest.ts';
import { releaseMicroVm } from './release-micro-vm.ts';
import type { SandboxContext } from './sandbox-context.ts';
import type { SandboxRecord } from './sandbox-record.ts';
import type { RunningParts, Sandbox } from './sandbox-registry.ts';
import { saveGeneration } from './save-generation.ts';
import { markLost } from './watch-exit.ts';

/** How long streams and transfers may finish before a pause cuts them. */
const drainMs = 2_000;
const freezeTimeoutMs = 30_000;

export interface PauseOptions {
  sandboxId: SandboxId;
  operationId: string;
  cause: Extract<GenerationCause, 'pause' | 'auto_pause' | 'host_shutdown'>;
}

/** Why a sandbox is paused, for people; empty when its user asked for it. */
function pauseReason(cause: GenerationCause, { timeoutSec }: SandboxRecord): string {
  if (cause === 'auto_pause') return `paused after ${timeoutSec} s without activity`;
  return cause === 'host_shutdown' ? 'paused because its host was asked to pause all' : '';
}

/**
 * Saves a sandbox as a new generation and frees its microVM. Resolves when the generation is durable and everything is freed.
 * When it throws, the sandbox runs on and is usable; only when its microVM is gone is it `error`, its last generation kept.
 */
export function pauseSandbox(
  context: SandboxContext,
  { sandboxId, operationId, cause }: PauseOptions,
): Promise<Sandbox> {
  const { registry, faults } = context;
  return registry.lock(sandboxId, async () => {
    const known = registry.get(sandboxId);
    if (known.record.lastOperationId === operationId) return known;
    const sandbox = registry.getRunning(sandboxId);
    await registry.save(sandbox, { state: 'pausing', reason: '', intent: { operationId, kind: 'pause' } });
    await faults.hit('pause.after-journal');
    let generation: GenerationManifest;
    try {
      await drain(sandbox);
      generation = await withStoppedGuest(context, sandbox, () =>
        saveGeneration(context, sandbox, {
          cause,
          isEnding: true,
          onDraft: (generationId) => registry.save(sandbox, { intent: { operationId, kind: 'pause', generationId } }),
        }),
      );
    } catch (error) {
      await resumeAfterFailure(context, sandbox, errorText(error));
      throw error;
    }
    await faults.hit('pause.after-commit');
    await finishPause(context, sandbox, { generation, operationId });
    return sandbox;
  });
}

/** The second half of a pause, once the generation is durable: also what a restarted agent does for an interrupted one. */
export async function finishPause(
  context: SandboxContext,
  sandbox: Sandbox,
  { generation, operationId }: { generation: GenerationManifest; operationId: string },
): Promise<void> {
  const { registry, faults } = context;
  const { record } = sandbox;
  await releaseMicroVm(context, sandbox);
  await faults.hit('pause.after-release');
  await removeRunFiles(context, sandbox);
  delete record.intent;
  await registry.save(sandbox, {
    state: 'paused',
    reason: pauseReason(generation.cause, record),
    lastOperationId: operationId,
    generationId: asId('generation', generation.id),
  });
  const event =
    generation.cause === 'auto_pause' || generation.cause === 'host_shutdown'
      ? 'sandbox.auto_paused'
      : 'sandbox.paused';
  await registry.events.push(event, record.sandboxId, {
    generation_id: record.generationId ?? '',
    ...(record.reason ? { reason: record.reason } : {}),
  });
  context.prepareResume(record.generationId);
}

/** Lets what uses the guest finish for a moment. What is left after that is cut by the pause. */
async function drain(sandbox: Sandbox): Promise<void> {
  await waitFor({ what: 'the end of all streams', timeoutMs: drainMs }, () => sandbox.openStreams === 0).catch(
    () => undefined,
  );
}

/**
 * Runs `work` while the guest's processes are frozen, its file systems flushed and its vCPUs stopped. When `work` throws, or
 * `isGoingOn`, the guest goes on after it.
 */
export async function withStoppedGuest<T>(
  { faults }: SandboxContext,
  { running }: Sandbox & { running: RunningParts },
  work: () => Promise<T>,
  { isGoingOn = false } = {},
): Promise<T> {
  let isDone = false;
  await running.guest.freeze({ timeoutMs: freezeTimeoutMs });
  try {
    await faults.hit('pause.after-freeze');
    // Kept-alive connections would be dead in every copy of the guest.
    running.guest.closeConnections();
    await running.vm.pause();
    await faults.hit('pause.after-stop');
    const result = await work();
    isDone = true;
    return result;
  } finally {
    if (isGoingOn || !isDone) {
      await running.vm.resume();
      await running.guest.thaw({ timeoutMs: freezeTimeoutMs });
    }
  }
}

/** After a failed pause: running again, with the reason, or `error` when the microVM did not survive. */
async function resumeAfterFailure(context: SandboxContext, sandbox: Sandbox, reason: string): Promise<void> {
  const { registry } = context;
  delete sandbox.record.intent;
  const { running } = sandbox;
  const exit = await Promise.race([running?.vm.exited, Promise.resolve(undefined)]);
  if (!running || exit) {
    await markLost(context, sandbox, exit?.reason ?? 'it was gone');
    return;
  }
  await registry.save(sandbox, { state: 'running', reason: `the last pause failed: ${reason}` });
  await registry.events.push('sandbox.pause_failed', sandbox.record.sandboxId, { reason });
}

/** Removes the run's own names of disk and memory: the generation has them. */
export async function removeRunFiles({ layout }: SandboxContext, { record }: Sandbox): Promise<void> {
  await rm(layout.sandbox(record.homeId), { recursive: true, force: true });
  record.homeId = record.sandboxId;
  delete record.disk;
  delete record.memory;
  delete record.diskGenerationId;
}
