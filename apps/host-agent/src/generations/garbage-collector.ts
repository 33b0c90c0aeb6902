import type { GenerationStore } from './generation-store.ts';
import type { Keeper } from './needed-parts.ts';

/** Collects saved files that nothing needs. `roots`: what the rest of the host needs besides the store's own rules. */
export class GarbageCollector {
  readonly #generations: Pick<GenerationStore, 'collectGarbage'>;
  readonly #roots: readonly (() => readonly Keeper[])[];

  constructor(
    { generations }: { generations: Pick<GenerationStore, 'collectGarbage'> },
    roots: readonly (() => readonly Keeper[])[],
  ) {
    this.#generations = generations;
    this.#roots = roots;
  }

  async collect(): Promise<void> {
    await this.#generations.collectGarbage(this.#roots.flatMap((roots) => roots()));
  }
}
