import { stat } from 'node:fs/promises';
import path from 'node:path';
import { AppError, asId, errorText, type GenerationCause } from '@aviary/core';
import type { DiskLayer } from '../disk/disk-store.ts';
import type { GenerationManifest } from '../generations/manifest.ts';
import type { SandboxContext } from './sandbox-context.ts';
import type { RunningParts, Sandbox } from './sandbox-registry.ts';
import { beginGeneration, diskPartName, saveGeneration } from './save-generation.ts';
import { thaw, withStoppedGuest } from './stopped-guest.ts';

type RunningSandbox = Sandbox & { running: RunningParts };

/**
 * Saves a running sandbox as a new generation; it goes on after a short stop, in which nothing is copied but the memory that it has
 * written: its disk layer becomes the generation's, and it goes on with a new layer on top. Under its lock. When it throws,
 * the sandbox goes on as it was and there is no such generation.
 */
export async function checkpoint(
  context: SandboxContext,
  sandbox: RunningSandbox,
  { cause, operationId }: { cause: Extract<GenerationCause, 'checkpoint' | 'fork' | 'template'>; operationId: string },
): Promise<GenerationManifest> {
  const { registry } = context;
  await using draft = await beginGeneration(context, sandbox);
  await registry.save(sandbox, {
    intent: { operationId, kind: 'checkpoint', generationId: asId('generation', draft.id) },
  });
  try {
    const manifest = await withStoppedGuest(
      context,
      sandbox,
      async () => {
        const manifest = await saveGeneration(context, sandbox, { draft, cause, isEnding: false });
        await goOnAbove(context, sandbox, manifest);
        return manifest;
      },
      { isGoingOn: true },
    );
    delete sandbox.record.intent;
    await saveIfPossible(context, sandbox);
    return manifest;
  } catch (error) {
    delete sandbox.record.intent;
    await saveIfPossible(context, sandbox);
    throw error;
  }
}

/** What a restarted agent does for a checkpoint that was interrupted: finishes it if its generation is durable. The sandbox runs after it. */
export async function finishCheckpoint(context: SandboxContext, sandbox: RunningSandbox): Promise<void> {
  const { registry, generations, logger } = context;
  const { record } = sandbox;
  const manifest = record.intent?.generationId && generations.get(record.intent.generationId);
  if (manifest) {
    await goOnAbove(context, sandbox, manifest).catch((error: unknown) =>
      logger.warn({ sandboxId: record.sandboxId, error: errorText(error) }, 'an interrupted checkpoint was undone'),
    );
  }
  await thaw(context, sandbox);
  delete record.intent;
  await registry.save(sandbox);
}

/** The journal keeps the intent if it must: the next agent then finds the layer in use and the guest running. */
async function saveIfPossible({ registry, logger }: SandboxContext, sandbox: RunningSandbox): Promise<void> {
  await registry.save(sandbox).catch((error: unknown) => {
    const { sandboxId } = sandbox.record;
    logger.warn({ sandboxId, error: errorText(error) }, 'cannot write the record of a checkpointed sandbox');
  });
}

/**
 * Has a stopped sandbox write to a new layer above a generation that was made of it just now, if it shares a disk layer with that. When
 * this throws, the old layer is in use as before and the generation has been taken back, or the microVM has been ended.
 */
async function goOnAbove(
  context: SandboxContext,
  sandbox: RunningSandbox,
  manifest: GenerationManifest,
): Promise<void> {
  const { disks, generations, layout, faults, logger } = context;
  const { record, running } = sandbox;
  const old = record.disk;
  if (!old) throw new AppError('invalid_state', 'the sandbox has no disk layer to go on from');
  const base: DiskLayer = {
    path: path.join(layout.generation(manifest.id), diskPartName),
    format: manifest.disk.format,
  };
  // Named after the generation, so that an agent that finds it in use knows what it is.
  const next: DiskLayer = { path: layout.sandboxLayer(record.homeId, manifest.id), format: 'qcow2' };
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
  record.generationId = asId('generation', manifest.id);
  if (isSwitched) Object.assign(record, { disk: next, diskGenerationId: record.generationId });
  await saveIfPossible(context, sandbox);
  if (!isSwitched || old.path === next.path) return;
  await generations
    .releaseSource(manifest.id, { part: diskPartName, path: old.path })
    .catch((error: unknown) => logger.warn({ file: old.path, error: errorText(error) }, 'cannot remove a spare name'));
}

async function isSameFile(one: string, other: string): Promise<boolean> {
  const [a, b] = await Promise.all([stat(one), stat(other)]);
  return a.dev === b.dev && a.ino === b.ino;
}
