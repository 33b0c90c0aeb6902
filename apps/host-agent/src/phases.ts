import { AsyncLocalStorage } from 'node:async_hooks';

/** How long one step of a command took. */
export interface Phase {
  name: string;
  ms: number;
}

const recorders = new AsyncLocalStorage<Phase[] | undefined>();

/** Runs a command, and tells its phases up to where it resolves, in the order in which they ended. */
export async function collectPhases<T>(work: () => Promise<T>): Promise<{ result: T; phases: Phase[] }> {
  const recorder: Phase[] = [];
  const result = await recorders.run(recorder, work);
  // What goes on behind the answer is not part of it.
  return { result, phases: [...recorder] };
}

/** One phase of the command that is under way, however it ends. Phases within phases are not told: they would count twice. */
export async function phase<T>(name: string, work: () => Promise<T>): Promise<T> {
  const recorder = recorders.getStore();
  if (!recorder) return work();
  const startedAt = performance.now();
  try {
    return await recorders.run(undefined, work);
  } finally {
    recorder.push({ name, ms: performance.now() - startedAt });
  }
}
