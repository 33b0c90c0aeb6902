import type { Clock } from '@aviary/service-kit';

/** How long one step of an operation took. */
export interface Phase {
  name: string;
  ms: number;
}

/** The durations of an operation's steps, in the order in which they ended. */
export class PhaseLog {
  readonly #clock: Clock;
  readonly #phases: Phase[];

  constructor(clock: Clock, phases: readonly Phase[] = []) {
    this.#clock = clock;
    this.#phases = [...phases];
  }

  get phases(): readonly Phase[] {
    return this.#phases;
  }

  add(...phases: Phase[]): void {
    this.#phases.push(...phases);
  }

  /** What the host tells of its steps, each as `host.NAME`. */
  addOfHost(phases: readonly Phase[]): void {
    for (const { name, ms } of phases) this.add({ name: `host.${name}`, ms: Math.round(ms * 1000) / 1000 });
  }

  /** Runs one step and keeps its duration, however it ends. */
  async time<T>(name: string, work: () => Promise<T>): Promise<T> {
    const startedAt = this.#clock.now();
    try {
      return await work();
    } finally {
      this.add({ name, ms: this.#clock.now() - startedAt });
    }
  }
}
