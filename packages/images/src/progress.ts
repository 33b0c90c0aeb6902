/** The parts of a build, in the order in which they are shown. */
export const imageSteps = ['kernel', 'initramfs', 'toolbox', 'minimal'] as const;
export type ImageStep = (typeof imageSteps)[number];

/** What a build tells while it works. `detail` is for people; `fraction` is of the whole build, 0 to 1, growing. */
export type ImageProgress =
  | { type: 'waiting'; detail: string }
  | { type: 'started' | 'working'; step: ImageStep; detail: string; fraction: number }
  | { type: 'finished'; step: ImageStep; detail: string; isCached: boolean; elapsedMs: number; fraction: number };

/** Rough shares of the build's time: a bar should move evenly, not count steps. */
const shares: Record<ImageStep, number> = { kernel: 0.1, initramfs: 0.02, toolbox: 0.13, minimal: 0.75 };

/** Counts finished steps into a fraction of the whole. */
export class ProgressCounter {
  readonly #onProgress: (progress: ImageProgress) => void;
  #fraction = 0;

  constructor(onProgress: (progress: ImageProgress) => void) {
    this.#onProgress = onProgress;
  }

  waiting(detail: string): void {
    this.#onProgress({ type: 'waiting', detail });
  }

  started(step: ImageStep, detail: string): void {
    this.#onProgress({ type: 'started', step, detail, fraction: this.#fraction });
  }

  working(step: ImageStep, detail: string): void {
    this.#onProgress({ type: 'working', step, detail, fraction: this.#fraction });
  }

  finished(step: ImageStep, result: { detail: string; isCached: boolean; elapsedMs: number }): void {
    this.#fraction = Math.min(1, this.#fraction + shares[step]);
    this.#onProgress({ type: 'finished', step, ...result, fraction: this.#fraction });
  }
}
