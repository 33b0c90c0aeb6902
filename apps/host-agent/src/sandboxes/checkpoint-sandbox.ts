import { asId, errorText } from '@aviary/core';
import type { GenerationCause, GenerationManifest } from '../generations/manifest.ts';
import { withStoppedGuest } from './pause-sandbox.ts';
import type { SandboxContext } from './sandbox-context.ts';
import type { RunningParts, Sandbox } from './sandbox-registry.ts';
import { saveGeneration } from './save-generation.ts';

/** Saves a running sandbox as a new generation; it goes on after a short stop. Under its lock. When it throws, the sandbox goes on too. */
export async function checkpoint(
  context: SandboxContext,
  sandbox: Sandbox & { running: RunningParts },
  cause: Extract<GenerationCause, 'checkpoint' | 'fork' | 'template' | 'boot'>,
): Promise<GenerationManifest> {
  const manifest = await withStoppedGuest(
    context,
    sandbox,
    () => saveGeneration(context, sandbox, { cause, isEnding: false }),
    { isGoingOn: true },
  );
  // The next generation's parent is this one; its memory diff stays relative to what the microVM was restored from.
  await context.registry.save(sandbox, { generationId: asId('generation', manifest.id) }).catch((error: unknown) => {
    context.logger.warn(
      { sandboxId: sandbox.record.sandboxId, error: errorText(error) },
      'checkpoint saved, its record not yet',
    );
  });
  return manifest;
}
