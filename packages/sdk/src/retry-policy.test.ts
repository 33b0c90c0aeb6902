import { describe, expect, it } from 'vitest';
import { retryDelayMs } from './retry-policy.ts';

const nowMs = Date.parse('2026-01-01T00:00:00Z');
const answer = (status: number, retryAfter?: string) => ({
  status,
  headers: new Headers(retryAfter === undefined ? {} : { 'retry-after': retryAfter }),
});

describe('retryDelayMs', () => {
  it('obeys seconds and dates', () => {
    expect(retryDelayMs(answer(429, '2'), nowMs)).toBe(2_000);
    expect(retryDelayMs(answer(503, 'Thu, 01 Jan 2026 00:00:05 GMT'), nowMs)).toBe(5_000);
    expect(retryDelayMs(answer(503, 'Wed, 31 Dec 2025 23:59:00 GMT'), nowMs)).toBe(0);
  });

  it('does not retry what nobody asked to be retried', () => {
    expect(retryDelayMs(answer(503), nowMs)).toBeUndefined();
    expect(retryDelayMs(answer(500, '1'), nowMs)).toBeUndefined();
    expect(retryDelayMs(answer(429, 'soon'), nowMs)).toBeUndefined();
  });

  it('reports a delay beyond its patience instead of waiting', () => {
    expect(retryDelayMs(answer(429, '31'), nowMs)).toBeUndefined();
    expect(retryDelayMs(answer(429, '31'), nowMs, { maxRetries: 1, maxDelayMs: 31_000 })).toBe(31_000);
  });
});
