import { AppError, type ErrorCode, errorText } from '@aviary/core';
import { Code, ConnectError } from '@connectrpc/connect';

const codes: Partial<Record<Code, ErrorCode>> = {
  [Code.InvalidArgument]: 'invalid_request',
  [Code.NotFound]: 'not_found',
  [Code.AlreadyExists]: 'already_exists',
  [Code.PermissionDenied]: 'forbidden',
  [Code.FailedPrecondition]: 'invalid_state',
  [Code.DeadlineExceeded]: 'deadline_exceeded',
  [Code.Canceled]: 'cancelled',
  [Code.ResourceExhausted]: 'disk_full',
  [Code.Unimplemented]: 'not_implemented',
  // The host's own token always fits, so what the guest refuses is the user that was asked for.
  [Code.Unauthenticated]: 'invalid_request',
};

/** What a failed call to the guest agent means to the caller. The guest is not trusted: unknown answers become `guest_unavailable`. */
export function fromGuestError(error: unknown, what: string): AppError {
  if (error instanceof AppError) return error;
  if (error instanceof ConnectError) {
    const code = codes[error.code];
    if (code) return new AppError(code, error.rawMessage.slice(0, 1_000), { cause: error });
  }
  return new AppError(
    'guest_unavailable',
    `cannot ${what}: the guest agent does not answer; it may be out of memory, see the sandbox's status`,
    {
      cause: error,
      details: { reason: errorText(error).slice(0, 200) },
    },
  );
}
