import path from 'node:path';
import { AppError } from '@aviary/core';
import type { HostLayout } from '../layout.ts';
import type { GenerationStore } from './generation-store.ts';

/** What a disk without a generation may lie on: the image, and the layer that an earlier run left. */
const maxOtherLayers = 2;

/**
 * Throws `integrity` unless the files under a layer are those that it was made on: what generation `diskGenerationId` consists of, or none of any
 * generation. Layers name their bases themselves, and a VMM that its guest has taken over can have its own name another sandbox's.
 */
export function requireKnownLayers(
  { generations, layout }: { generations: Pick<GenerationStore, 'get'>; layout: HostLayout },
  below: readonly { path: string }[],
  diskGenerationId: string | undefined,
): void {
  const files = below.map((layer) => layer.path);
  const known = diskGenerationId === undefined ? [] : filesOf(generations, layout, diskGenerationId);
  const others = files.slice(0, Math.max(0, files.length - known.length));
  const isKnown =
    known.every((file, index) => files[others.length + index] === file) &&
    others.length <= maxOtherLayers &&
    others.every((file) => layout.generationPart(file) === undefined);
  if (!isKnown)
    throw new AppError(
      'integrity',
      'cannot use the disk of the sandbox: its layers name others than they were made on',
    );
}

/** The generation's own disk layer, and those under it. */
function filesOf(generations: Pick<GenerationStore, 'get'>, layout: HostLayout, generationId: string): string[] {
  const manifest = generations.get(generationId);
  if (!manifest) throw new AppError('integrity', `the generation ${generationId} that a disk lies on is not there`);
  const { part, backing } = manifest.disk;
  return [{ kind: 'generation' as const, generationId, part }, ...backing].map((layer) =>
    layer.kind === 'generation' ? path.join(layout.generation(layer.generationId), layer.part) : layer.path,
  );
}
