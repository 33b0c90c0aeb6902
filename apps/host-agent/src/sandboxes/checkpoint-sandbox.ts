import { stat } from 'node:fs/promises';
import path from 'node:path';
import { AppError, asId, errorText, type GenerationCause, type GenerationId } from '@aviary/core';
import type { DiskLayer } from '../disk/disk-store.ts';
import type { GenerationStore } from '../generations/generation-store.ts';
import type { GenerationManifest } from '../generations/manifest.ts';
import type { RunningSandbox, SandboxRegistry } from '../registry/sandbox-registry.ts';
import { findExit } from '../saving/find-exit.ts';
import { beginGeneration, type SaveDeps, saveGeneration } from '../saving/save-generation.ts';
import { thaw, withStoppedGuest } from '../saving/stopped-guest.ts';

export interface CheckpointDeps extends SaveDeps {
  registry: SandboxRegistry;
  generations: GenerationStore;
}

/**
 * Saves a running sandbox as a new generation; it goes on after a short stop, in which nothing is copied but the memory that it has
 * written: its disk layer becomes the generation's, and it goes on with a new layer on top. Under its lock. When it throws,
 * the sandbox goes on as it was and there is no such generation; with `guest_unavailable` its microVM has ended.
 */
export async function checkpoint(
  deps: CheckpointDeps,
  sandbox: RunningSandbox,
  { cause, operationId }: { cause: Extract<GenerationCause, 'checkpoint' | 'fork' | 'template'>; operationId: string },
): Promise<GenerationManifest> {
  const { registry } = deps;
  const { record, running } = sandbox;
  const { run } = record;
  await using draft = await beginGeneration(deps, record.sandboxId, run);
  const generationId = asId('generation', draft.id);
  await registry.transition(sandbox, { kind: 'checkpoint_begun', operationId, generationId });
  try {
    return await withStoppedGuest(
      deps,
      sandbox,
      async () => {
        const manifest = await saveGeneration(deps, { record, run, running }, { draft, cause, isEnding: false });
        await switchOverlay(deps, sandbox, manifest);
        return manifest;
      },
      { isGoingOn: true },
    );
  } catch (cause) {
    const exit = await findExit(registry.clock, running.vm);
    if (exit === undefined) throw cause;
    throw new AppError('guest_unavailable', `the sandbox's microVM ended while its state was saved: ${exit.reason}`, {
      cause,
    });
  } finally {
    await registry.transition(sandbox, { kind: 'checkpoint_ended' });
  }
}

/** What a restarted agent does for a checkpoint that was interrupted: finishes it if its generation is durable. The sandbox runs after it. */
export async function finishCheckpoint(
  deps: CheckpointDeps,
  sandbox: RunningSandbox,
  generationId: GenerationId,
): Promise<void> {
  const { registry, generations, logger } = deps;
  const { sandboxId } = sandbox.record;
  const manifest = generations.get(generationId);
  if (manifest) {
    await switchOverlay(deps, sandbox, manifest).catch((error: unknown) =>
      logger.warn({ sandboxId, error: errorText(error) }, 'an interrupted checkpoint was undone'),
    );
  }
  await thaw(deps, sandbox);
  await registry.transition(sandbox, { kind: 'checkpoint_ended' });
}

/**
 * Has a stopped sandbox write to a new layer above a generation that was made of it just now, if it shares a disk layer with that. When
 * this throws, the old layer is in use as before and the generation has been taken back, or the microVM has been ended.
 */
async function switchOverlay(
  deps: CheckpointDeps,
  sandbox: RunningSandbox,
  manifest: GenerationManifest,
): Promise<void> {
  const { registry, disks, generations, layout, faults, logger } = deps;
  const { record, running } = sandbox;
  const { disk: old, runDirectoryId } = record.run;
  const base: DiskLayer = {
    path: path.join(layout.generation(manifest.id), manifest.disk.part),
    format: manifest.disk.format,
  };
  // Named after the generation, so that an agent that finds it in use knows what it is.
  const next = disks.layerAt(layout.sandboxLayer(runDirectoryId, manifest.id));
  let isSwitched = false;
  try {
    isSwitched = (await running.vm.diskPath()) === next.path;
    if (!isSwitched && (await isSameFile(old.path, base.path))) {
      // What an interrupted attempt left may be incomplete, and nothing has it open.
      await disks.remove(next);
      await disks.createLayer({ path: next.path, base, sizeMib: record.diskMib, uid: running.slot.uid });
      await faults.hit('checkpoint.before-switch');
      await running.vm.switchDisk(next);
      isSwitched = true;
    }
  } catch (error) {
    const inUse = await running.vm.diskPath().catch(() => undefined);
    if (inUse === undefined) {
      // It might go on writing into the generation, which has all of it: ended, it can be resumed from there.
      await running.vm.kill();
    } else if (inUse !== next.path) {
      await generations.withdraw(manifest);
      await disks.remove(next);
    }
    throw error;
  }
  await faults.hit('checkpoint.after-switch');
  const generationId = asId('generation', manifest.id);
  const disk = isSwitched ? { disk: next } : {};
  await registry.transition(sandbox, { kind: 'checkpoint_switched', generationId, ...disk });
  if (!isSwitched || old.path === next.path) return;
  await generations
    .releaseSource(manifest.id, { part: manifest.disk.part, path: old.path })
    .catch((error: unknown) => logger.warn({ file: old.path, error: errorText(error) }, 'cannot remove a spare name'));
}

async function isSameFile(one: string, other: string): Promise<boolean> {
  const [a, b] = await Promise.all([stat(one), stat(other)]);
  return a.dev === b.dev && a.ino === b.ino;
}
