/** Runs all at once and resolves when all have ended, so that nothing goes on behind a failure; then throws the first one's error that failed. */
export async function allDone(steps: readonly (() => Promise<unknown>)[]): Promise<void> {
  for (const result of await Promise.allSettled(steps.map((step) => step())))
    if (result.status === 'rejected') throw result.reason;
}
