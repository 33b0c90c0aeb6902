import { errorText, type GenerationId } from '@aviary/core';
import { type Logger, Semaphore } from '@aviary/service-kit';
import type { GenerationStore } from './generation-store.ts';

export interface ResumePreparerDeps {
  generations: Pick<GenerationStore, 'ensureFullImage'>;
  logger: Logger;
}

/** Puts saved memory into one image in the background, one at a time, so that a resume finds it made. */
export class ResumePreparer implements AsyncDisposable {
  readonly #deps: ResumePreparerDeps;
  readonly #stop = new AbortController();
  readonly #one = new Semaphore(1);
  readonly #underWay = new Set<Promise<void>>();

  constructor(deps: ResumePreparerDeps) {
    this.#deps = deps;
  }

  prepare(generationId: GenerationId): void {
    const { generations, logger } = this.#deps;
    const { signal } = this.#stop;
    if (signal.aborted) return;
    const work = this.#one
      .run(() => generations.ensureFullImage(generationId, signal))
      .catch((error: unknown) => {
        if (!signal.aborted)
          logger.warn(
            { generationId, error: errorText(error) },
            'cannot prepare a resume; it will be done when it resumes',
          );
      })
      .finally(() => this.#underWay.delete(work));
    this.#underWay.add(work);
  }

  /** Drops what is under way. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error('the host agent stops'));
    await Promise.all(this.#underWay);
  }
}
