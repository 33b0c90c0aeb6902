import type { CommandContext } from '../command.ts';

/** Runs `work` and tells on standard error how long the user waited for it. */
export async function showTime<T>({ output }: CommandContext, what: string, work: () => Promise<T>): Promise<T> {
  const startedAt = performance.now();
  const result = await work();
  output.note(`${what}: ${Math.round(performance.now() - startedAt)} ms`);
  return result;
}
