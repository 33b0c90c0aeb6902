import type { GenerationStore } from './generation-store.ts';
import type { GcRoot } from './needed-parts.ts';

/** Collects saved files that nothing needs. `roots`: what the rest of the host needs besides the store's own rules. */
export class GarbageCollector {
  readonly #generations: Pick<GenerationStore, 'collectGarbage'>;
  readonly #roots: readonly (() => readonly GcRoot[])[];

  constructor(
    { generations }: { generations: Pick<GenerationStore, 'collectGarbage'> },
    roots: readonly (() => readonly GcRoot[])[],
  ) {
    this.#generations = generations;
    this.#roots = roots;
  }

  async collect(): Promise<void> {
    await this.#generations.collectGarbage(this.#roots.flatMap((roots) => roots()));
  }
}
