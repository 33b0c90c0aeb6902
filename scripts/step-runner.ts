import type { Output } from '@aviary/cli';
import { errorText } from '@aviary/core';

/** A step that failed: what was tried and why it did not work. The message says both. */
export class StepFailed extends Error {
  override readonly name = 'StepFailed';
}

export interface StepRecord {
  name: string;
  elapsedMs: number;
  /** What the step found out, for the summary. */
  detail: string;
}

/** Runs steps one after the other, telling each one's time, and keeps them for the summary. */
export class StepRunner {
  readonly records: StepRecord[] = [];
  readonly #output: Output;
  readonly #signal: AbortSignal;

  constructor(output: Output, signal: AbortSignal) {
    this.#output = output;
    this.#signal = signal;
  }

  /** Runs `work`; `describe` makes the summary's words of its result. Throws StepFailed, or the signal's reason when interrupted. */
  async run<T>(name: string, work: () => Promise<T>, describe: (result: T) => string = () => ''): Promise<T> {
    this.#signal.throwIfAborted();
    this.#output.note(`${this.#output.paint('bold', '›')} ${name}`);
    const startedMs = performance.now();
    let result: T;
    try {
      result = await work();
    } catch (error) {
      this.#signal.throwIfAborted();
      throw new StepFailed(`step "${name}" failed: ${errorText(error)}`, { cause: error });
    }
    const record = { name, elapsedMs: performance.now() - startedMs, detail: describe(result) };
    this.records.push(record);
    this.#output.note(`  ${this.#output.paint('green', 'done')} in ${formatMs(record.elapsedMs)}  ${record.detail}`);
    return result;
  }
}

/** Milliseconds for people. */
export function formatMs(ms: number): string {
  return ms < 10_000 ? `${Math.round(ms)} ms` : `${(ms / 1_000).toFixed(1)} s`;
}
