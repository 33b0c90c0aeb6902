import type { FastifyRequest } from 'fastify';
import { expect, test } from 'vitest';
import { readWaitMs } from './prefer-wait.ts';

const read = (prefer?: string | string[]) => readWaitMs({ headers: { prefer } } as unknown as FastifyRequest);

test.each<[string | string[] | undefined, number]>([
  [undefined, 0],
  ['', 0],
  ['wait=30', 30_000],
  ['wait=0', 0],
  ['WAIT="5"', 5_000],
  ['respond-async, wait=10', 10_000],
  ['return=minimal; wait=7', 7_000],
  [['return=minimal', 'wait=3'], 3_000],
  ['wait=100000', 600_000],
  ['waiting=5', 0],
  ['return=minimal', 0],
])('%j waits %i ms', (header, ms) => {
  expect(read(header)).toBe(ms);
});

test.each(['wait', 'wait=', 'wait=x', 'wait=-1', 'wait=1.5', 'wait=1e3', 'wait=9999999999'])(
  '%j is refused',
  (header) => {
    expect(() => read(header)).toThrow(
      expect.objectContaining({ code: 'invalid_request', details: { field: 'Prefer' } }),
    );
  },
);
