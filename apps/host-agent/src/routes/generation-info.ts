import { type GenerationInfo, GenerationInfoSchema } from '@aviary/proto/hostagent';
import { create } from '@bufbuild/protobuf';
import type { GenerationNode } from '../generations/sandbox-generations.ts';

/** A generation as the control plane sees it. Sizes are those of its own files, without what it shares with others. */
export function toGenerationInfo({
  manifest,
  name,
  isPinned,
  isCurrent,
}: Omit<GenerationNode, 'children'>): GenerationInfo {
  const bytesOf = (part: string | undefined) => BigInt(part === undefined ? 0 : (manifest.parts[part]?.bytes ?? 0));
  return create(GenerationInfoSchema, {
    generationId: manifest.id,
    parentId: manifest.parent ?? '',
    name: name ?? '',
    pinned: isPinned,
    cause: manifest.cause,
    createdAtUnixMs: BigInt(Date.parse(manifest.createdAt)),
    memoryBytes: bytesOf(manifest.memory.kind === 'none' ? undefined : manifest.memory.part),
    diskBytes: bytesOf(manifest.disk.part),
    hasMemory: manifest.memory.kind !== 'none',
    current: isCurrent,
  });
}
