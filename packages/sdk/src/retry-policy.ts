/** Which answers are worth a second try, and when. */
export interface RetryPolicy {
  /** Tries after the first. Default 3. */
  maxRetries: number;
  /** Longest `Retry-After` that is obeyed; a longer one is reported instead. Default 30 000. */
  maxDelayMs: number;
}

export const defaultRetryPolicy: RetryPolicy = { maxRetries: 3, maxDelayMs: 30_000 };

/**
 * Milliseconds to wait before the same request may be sent again, or undefined when it may not: only 429 and 503 that
 * carry `Retry-After` say that nothing was done and that trying again helps.
 */
export function retryDelayMs(
  response: { status: number; headers: Headers },
  nowMs: number,
  policy: RetryPolicy = defaultRetryPolicy,
): number | undefined {
  if (response.status !== 429 && response.status !== 503) return undefined;
  const header = response.headers.get('retry-after')?.trim();
  if (!header) return undefined;
  const delayMs = /^\d+(\.\d+)?$/.test(header) ? Number(header) * 1_000 : Date.parse(header) - nowMs;
  if (Number.isNaN(delayMs) || delayMs > policy.maxDelayMs) return undefined;
  return Math.max(0, delayMs);
}
