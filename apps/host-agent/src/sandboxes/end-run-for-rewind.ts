import { AppError, type GenerationId } from '@aviary/core';
import type { RunningSandbox } from '../registry/sandbox-registry.ts';
import { findRestoreMismatches } from '../starts/restore-fit.ts';
import { type PauseDeps, pauseRunning } from './pause-sandbox.ts';

/**
 * Ends what runs, so that the sandbox can go back to a generation: the running state is saved first, as a generation that can be gone
 * back to in its turn. Nothing is ended before the wanted generation is known to be whole. Of a guest that does not answer only the
 * disk is saved, and the text returned says so; a failure to save throws, and the sandbox runs on.
 */
export async function endRunForRewind(
  deps: PauseDeps,
  sandbox: RunningSandbox,
  { generationId, isCold, operationId }: { generationId: GenerationId; isCold: boolean; operationId: string },
): Promise<string | undefined> {
  const { generations } = deps;
  const manifest = generations.get(generationId);
  if (!manifest) throw new AppError('not_found', `there is no generation ${generationId} on this host`);
  const needsDiskOnly = isCold || (await findRestoreMismatches(deps, manifest)).length > 0;
  await generations.open(generationId, { need: needsDiskOnly ? 'disk' : 'memory' });
  // An id of its own: the rewind's must not count as done when the pause is.
  const pause = { operationId: `${operationId}:pause`, cause: 'pause', isForced: true } as const;
  const saved = await pauseRunning(deps, sandbox, { ...pause, freezeTimeoutMs: patientFreezeTimeoutMs });
  return saved.memory.kind === 'none'
    ? 'the guest agent did not answer: of what ran before, only the disk was saved'
    : undefined;
}

/** Nobody has said that the guest hangs: it gets the time of an ordinary pause. */
const patientFreezeTimeoutMs = 30_000;
