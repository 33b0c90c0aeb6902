import { expect, test } from 'vitest';
import { AppError, type ErrorCode, errorCodes, errorText, isErrorCode, toAppError } from './index.ts';

const codes = Object.keys(errorCodes) as ErrorCode[];
/** https://connectrpc.com/docs/protocol#error-codes */
const connectCodes = [
  'canceled',
  'unknown',
  'invalid_argument',
  'deadline_exceeded',
  'not_found',
  'already_exists',
  'permission_denied',
  'resource_exhausted',
  'failed_precondition',
  'aborted',
  'out_of_range',
  'unimplemented',
  'internal',
  'unavailable',
  'data_loss',
  'unauthenticated',
];

test('every code has an HTTP error status and a Connect code that exist', () => {
  for (const code of codes) {
    const { http, connect } = errorCodes[code];
    expect(http).toBeGreaterThanOrEqual(400);
    expect(http).toBeLessThan(600);
    expect(connectCodes).toContain(connect);
    expect(isErrorCode(code)).toBe(true);
  }
});

test('names that every object has are no codes', () => {
  for (const text of ['', 'constructor', 'toString', '__proto__', 'INTERNAL']) expect(isErrorCode(text)).toBe(false);
});

test('an error of ours stays itself; any other becomes internal, with its cause kept and its text not shown', () => {
  const own = new AppError('not_found', 'there is no such sandbox', { details: { field: 'id' }, retryAfterSec: 1 });
  expect(toAppError(own)).toBe(own);
  expect(own).toMatchObject({ code: 'not_found', details: { field: 'id' }, retryAfterSec: 1 });
  const cause = new Error('password is hunter2');
  for (const thrown of [cause, 'hunter2', undefined, null, { code: 'not_found' }]) {
    const known = toAppError(thrown);
    expect(known).toMatchObject({ code: 'internal', details: {}, retryAfterSec: undefined });
    expect(known.message).not.toContain('hunter2');
  }
  expect(toAppError(cause).cause).toBe(cause);
});

test.each([
  [new Error('one'), 'one'],
  [new AggregateError([new Error('one'), 'two'], 'both'), 'both; one; two'],
  [new AggregateError([new Error('one')]), 'one'],
  ['text', 'text'],
])('%s is told as text', (error, text) => {
  expect(errorText(error)).toBe(text);
});
