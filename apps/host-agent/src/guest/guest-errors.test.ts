import { AppError, type ErrorCode } from '@aviary/core';
import { toConnectError } from '@aviary/service-kit/connect-errors';
import { Code, ConnectError } from '@connectrpc/connect';
import { expect, it } from 'vitest';
import { fromGuestError } from './guest-errors.ts';

it.each([
  // One code of Connect stands for all of these.
  ['disk_full', 'disk_full'],
  ['payload_too_large', 'payload_too_large'],
  ['quota_exceeded', 'quota_exceeded'],
  ['no_capacity', 'no_capacity'],
  ['forbidden', 'forbidden'],
  ['conflict', 'conflict'],
  ['unauthorized', 'invalid_request'],
  ['internal', 'guest_unavailable'],
  ['stale_epoch', 'guest_unavailable'],
] satisfies [ErrorCode, ErrorCode][])('a guest that says %s means %s', (named, expected) => {
  const error = toConnectError(new AppError(named, 'why'));
  expect(fromGuestError(error, 'list the directory').code).toBe(expected);
});

it('takes no code of Connect for one of ours', () => {
  const error = new ConnectError('why', Code.ResourceExhausted);
  expect(fromGuestError(error, 'list the directory').code).toBe('guest_unavailable');
});

it('says what there is no more of, and which field was at fault', () => {
  const answered = (code: ErrorCode, details: Record<string, unknown>) =>
    fromGuestError(toConnectError(new AppError(code, 'why', { details })), 'run the command').details;
  expect(answered('quota_exceeded', { resource: 'processes' })).toEqual({ resource: 'processes' });
  expect(answered('invalid_request', { cwd: '/nope' })).toEqual({ field: 'cwd' });
  expect(answered('unauthorized', {})).toEqual({ field: 'user' });
});

it('lets nothing through that a database or a terminal cannot take', () => {
  const said = 'no\0 \u001b[2Jroom\r\nleft \ud800';
  const error = fromGuestError(
    toConnectError(new AppError('invalid_state', said, { details: { field: 'a\0b' } })),
    'run it',
  );
  expect(error).toMatchObject({ message: 'no  room left \ufffd', details: { field: 'a b' } });
});
