import { sandboxLimits } from '@aviary/core';
import type { GenerationIndex } from './generation-index.ts';
import type { LabelBook } from './generation-labels.ts';
import type { GenerationManifest } from './manifest.ts';
import type { GcRoot } from './needed-parts.ts';

/** A generation as users see it; `children` were made from it. */
export interface GenerationNode {
  manifest: GenerationManifest;
  name?: string;
  isPinned: boolean;
  isCurrent: boolean;
  children: GenerationNode[];
}

/** What generations a sandbox has, by the manifests on disk and what people said about them. Changes nothing. */
export class SandboxGenerations {
  readonly #index: GenerationIndex;
  readonly #labels: LabelBook;
  readonly #kept: number;

  constructor(
    { index, labels }: { index: GenerationIndex; labels: LabelBook },
    { keptGenerations = sandboxLimits.keptGenerations }: { keptGenerations?: number },
  ) {
    this.#index = index;
    this.#labels = labels;
    this.#kept = keptGenerations;
  }

  /** A sandbox's generations as trees, oldest first. Parents that are gone are skipped over. */
  list(sandboxId: string): GenerationNode[] {
    const { labels } = this.#labels.get(sandboxId);
    const current = this.current(sandboxId);
    const nodes = new Map<string, GenerationNode>();
    for (const manifest of this.#visible(sandboxId)) {
      const { name, isPinned = false } = labels[manifest.id] ?? {};
      const isCurrent = manifest.id === current;
      nodes.set(manifest.id, { manifest, isPinned, isCurrent, children: [], ...(name === undefined ? {} : { name }) });
    }
    const roots: GenerationNode[] = [];
    for (const node of nodes.values()) {
      let parent = node.manifest.parent;
      while (parent !== undefined && !nodes.has(parent)) parent = this.#index.generations.get(parent)?.manifest.parent;
      const above = parent === undefined ? undefined : nodes.get(parent);
      (above?.children ?? roots).push(node);
    }
    return roots;
  }

  /** What sandboxes keep for themselves: their newest few, what is pinned, and where they were put. */
  gcRoots(): GcRoot[] {
    const owners = [...this.#index.generations.values()].map(({ manifest }) => manifest.sandboxId);
    return [...new Set([...owners, ...this.#labels.sandboxIds()])].flatMap((sandboxId) => {
      const { isForgotten, pointer, labels } = this.#labels.get(sandboxId);
      if (isForgotten) return [];
      const visible = this.#visible(sandboxId);
      const newest = this.#labels.isDamaged(sandboxId) ? visible : visible.slice(-this.#kept);
      const pinned = visible.filter(({ id }) => labels[id]?.isPinned);
      const ids = [...newest, ...pinned].map(({ id }) => id);
      return [...ids, ...(pointer ? [pointer.generationId] : [])].map((generationId) => ({ generationId }));
    });
  }

  /** A sandbox's generations that can be opened and were not deleted, oldest first. */
  #visible(sandboxId: string): GenerationManifest[] {
    const { labels } = this.#labels.get(sandboxId);
    return [...this.#index.generations.values()]
      .filter(
        ({ manifest, retired }) => manifest.sandboxId === sandboxId && !retired && !labels[manifest.id]?.isDeleted,
      )
      .map(({ manifest }) => manifest)
      .toSorted((a, b) => a.number - b.number);
  }

  /** The highest number that a sandbox's generations have had. */
  lastNumber(sandboxId: string): number {
    const numbers = [...this.#index.generations.values()]
      .filter(({ manifest }) => manifest.sandboxId === sandboxId)
      .map(({ manifest }) => manifest.number);
    return Math.max(0, this.#labels.get(sandboxId).pointer?.sinceNumber ?? 0, ...numbers);
  }

  /** The generation that a sandbox resumes from: where it was last put, or the newest since. */
  current(sandboxId: string): string | undefined {
    const { pointer } = this.#labels.get(sandboxId);
    const newest = this.#visible(sandboxId).at(-1);
    const at = pointer && this.#index.generations.get(pointer.generationId);
    if (pointer && at && !at.retired && pointer.sinceNumber >= (newest?.number ?? 0)) return pointer.generationId;
    return newest?.id;
  }
}
