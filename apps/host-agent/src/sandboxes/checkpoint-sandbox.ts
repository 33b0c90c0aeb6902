import { asId, errorText } from '@aviary/core';
import type { GenerationCause, GenerationManifest } from '../generations/manifest.ts';
import { withStoppedGuest } from './pause-sandbox.ts';
import type { SandboxContext } from './sandbox-context.ts';
import type { SandboxRecord } from './sandbox-record.ts';
import type { RunningParts, Sandbox } from './sandbox-registry.ts';
import { saveGeneration } from './save-generation.ts';

/**
 * Saves a running sandbox as a new generation; it goes on after a short stop, also when this throws. Under its lock. The journal says
 * that it is being stopped, so that a later agent lets it go on if this one ends meanwhile.
 */
export async function checkpoint(
  context: SandboxContext,
  sandbox: Sandbox & { running: RunningParts },
  { operationId, cause }: { operationId: string; cause: Extract<GenerationCause, 'checkpoint' | 'fork' | 'template'> },
): Promise<GenerationManifest> {
  const { registry, logger } = context;
  const { record } = sandbox;
  const change: Partial<SandboxRecord> = {};
  try {
    await registry.save(sandbox, { intent: { operationId, kind: 'checkpoint' } });
    const manifest = await withStoppedGuest(
      context,
      sandbox,
      () => saveGeneration(context, sandbox, { cause, isEnding: false }),
      { isGoingOn: true },
    );
    // The next generation's parent is this one; its memory diff stays relative to what the microVM was restored from.
    change.generationId = asId('generation', manifest.id);
    return manifest;
  } finally {
    delete record.intent;
    await registry.save(sandbox, change).catch((error: unknown) => {
      logger.warn(
        { sandboxId: record.sandboxId, error: errorText(error) },
        'going on after a checkpoint, not yet noted',
      );
    });
  }
}
