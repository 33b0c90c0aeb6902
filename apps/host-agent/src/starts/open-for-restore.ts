import { AppError, type GenerationId } from '@aviary/core';
import type { OpenedGeneration } from '../generations/generation-reader.ts';
import { findRestoreMismatches } from './restore-fit.ts';
import type { StartDeps } from './start-deps.ts';

/** Opens a generation for restoring. Throws `integrity`, or `invalid_state` naming what differs on this host. */
export async function openForRestore(
  deps: Pick<StartDeps, 'generations' | 'layout' | 'identity' | 'images'>,
  generationId: GenerationId,
): Promise<OpenedGeneration> {
  const { generations } = deps;
  const manifest = generations.get(generationId);
  if (!manifest) throw new AppError('not_found', `there is no generation ${generationId} on this host`);
  const mismatches = await findRestoreMismatches(deps, manifest);
  if (mismatches.length > 0)
    throw new AppError('invalid_state', `cannot restore on this host: ${mismatches.join('; ')}`);
  return openMemory(deps, generationId);
}

/** Opens a generation with memory that can be restored at once. */
export async function openMemory(
  { generations }: Pick<StartDeps, 'generations'>,
  generationId: GenerationId,
): Promise<OpenedGeneration> {
  const opened = await generations.open(generationId, { need: 'memory' });
  if (generations.canRestore(opened)) return opened;
  await generations.ensureFullImage(generationId);
  return generations.open(generationId, { need: 'memory' });
}
