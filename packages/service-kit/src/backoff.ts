export interface BackoffOptions {
  /** First delay. Default 100. */
  initialMs?: number;
  /** Longest delay. Default 30 000. */
  maxMs?: number;
  random?: () => number;
}

/** The delay before attempt `attempt` (0 = first retry): doubles, capped, with the upper half random. */
export function backoffMs(
  attempt: number,
  { initialMs = 100, maxMs = 30_000, random = Math.random }: BackoffOptions = {},
): number {
  const ceiling = Math.min(maxMs, initialMs * 2 ** Math.min(attempt, 30));
  return ceiling / 2 + (ceiling / 2) * random();
}
