import type { GenerationIndex } from './generation-index.ts';
import type { MemoryFacts, MergedManifest, StorageRef } from './manifest.ts';

/** Something that uses a generation: a running sandbox, a template, a label. */
export interface GcRoot {
  generationId: string;
  /** The memory file that a running microVM was restored from: its next diff is relative to that one. */
  storageId?: string;
}

/** What must stay on disk. */
export interface NeededParts {
  /** Generations that stay whole. */
  whole: Set<string>;
  /** Of other generations: the parts that somebody reads. */
  parts: Map<string, Set<string>>;
  /** Merged forms, by storage id. */
  merged: Set<string>;
}

/** The merged form that a generation is opened from, if it has one: a full image rather than a diff, then the newest. */
export function preferredMerged(index: GenerationIndex, generationId: string): MergedManifest | undefined {
  const rank = ({ memory, storageId }: MergedManifest) => `${memory.kind === 'full' ? 1 : 0}${storageId}`;
  return [...index.merged.values()]
    .filter((merged) => merged.generationId === generationId)
    .reduce<MergedManifest | undefined>((best, one) => (best && rank(best) > rank(one) ? best : one), undefined);
}

/**
 * Everything that `gcRoots` need, directly or through others, worked out from the manifests each time: a stored count could drift from
 * the truth, and then either data is lost or the disk fills.
 */
export function neededParts(index: GenerationIndex, gcRoots: Iterable<GcRoot>): NeededParts {
  const needed: NeededParts = { whole: new Set(), parts: new Map(), merged: new Set() };
  const needPart = (generationId: string, part: string) => {
    const parts = needed.parts.get(generationId) ?? new Set();
    needed.parts.set(generationId, parts.add(part));
  };
  const needMemory = (memory: MemoryFacts) => {
    if (memory.kind === 'diff') for (const ref of memory.needs) needStorage(ref);
  };
  const needStorage = ({ generationId, storageId }: StorageRef) => {
    const own = index.generations.get(generationId)?.manifest.memory;
    if (storageId === generationId) {
      if (own && own.kind !== 'none') {
        needPart(generationId, own.part);
        needMemory(own);
      }
    } else if (!needed.merged.has(storageId)) {
      needed.merged.add(storageId);
      const merged = index.merged.get(storageId);
      if (merged) needMemory(merged.memory);
    }
  };
  for (const { generationId, storageId } of gcRoots) {
    if (storageId !== undefined) needStorage({ generationId, storageId });
    const found = index.generations.get(generationId);
    if (!found || needed.whole.has(generationId)) continue;
    needed.whole.add(generationId);
    const merged = preferredMerged(index, generationId);
    if (merged) needStorage(merged);
    else needMemory(found.manifest.memory);
    for (const layer of found.manifest.disk.backing)
      if (layer.kind === 'generation') needPart(layer.generationId, layer.part);
  }
  return needed;
}
