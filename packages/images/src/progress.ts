/** The parts of a build, in the order in which they are shown. */
export const imageSteps = ['kernel', 'initramfs', 'toolbox', 'minimal'] as const;
export type ImageStep = (typeof imageSteps)[number];

/** What a build tells while it works. `detail` is for people; `fraction` is of the whole build, 0 to 1, growing. */
export type ImageProgress =
  | { type: 'waiting'; detail: string }
  | { type: 'started' | 'working'; step: ImageStep; detail: string; fraction: number }
  | { type: 'finished'; step: ImageStep; detail: string; isCached: boolean; elapsedMs: number; fraction: number };

/** Shares of the build's time: a bar should move evenly, not count steps. */
const shares: Record<ImageStep, number> = { kernel: 0.1, initramfs: 0.01, toolbox: 0.14, minimal: 0.75 };

/** Sums up how far each step is into a fraction of the whole. */
export class ProgressCounter {
  readonly #onProgress: (progress: ImageProgress) => void;
  readonly #done: Record<ImageStep, number> = { kernel: 0, initramfs: 0, toolbox: 0, minimal: 0 };

  constructor(onProgress: (progress: ImageProgress) => void) {
    this.#onProgress = onProgress;
  }

  waiting(detail: string): void {
    this.#onProgress({ type: 'waiting', detail });
  }

  started(step: ImageStep, detail: string): void {
    this.#onProgress({ type: 'started', step, detail, fraction: this.#fraction });
  }

  /** `done` is how much of the step's own time lies behind it, 0 to 1; it never goes back. */
  working(step: ImageStep, detail: string, done = 0): void {
    this.#done[step] = Math.max(this.#done[step], done);
    this.#onProgress({ type: 'working', step, detail, fraction: this.#fraction });
  }

  finished(step: ImageStep, result: { detail: string; isCached: boolean; elapsedMs: number }): void {
    this.#done[step] = 1;
    this.#onProgress({ type: 'finished', step, ...result, fraction: this.#fraction });
  }

  get #fraction(): number {
    const sum = imageSteps.reduce((total, step) => total + shares[step] * this.#done[step], 0);
    return Math.min(1, sum);
  }
}
