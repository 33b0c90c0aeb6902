import { AppError, type ErrorCode, errorCodes, errorText } from '@aviary/core';
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

/** What the guest names as the cause, and the field of our request that it came from. */
const fields = { cwd: 'cwd', command: 'cmd', path: 'path', field: undefined } as const;

function readDetails(error: ConnectError): Record<string, unknown> {
  if (error.code === Code.Unauthenticated) return { field: 'user' };
  let named: unknown;
  try {
    named = JSON.parse(error.metadata.get('x-aviary-details') ?? '{}');
  } catch {
    return {}; // the code and message stand by themselves
  }
  if (typeof named !== 'object' || named === null) return {};
  for (const [name, field = undefined] of Object.entries(fields)) {
    const value = (named as Record<string, unknown>)[name];
    if (typeof value === 'string') return { field: (field ?? value).slice(0, 64) };
  }
  return {};
}

/**
 * What a failed call to the guest agent means to the caller. The guest is not trusted: unknown answers become `guest_unavailable`. `field` is at fault where
 * the guest names none.
 */
export function fromGuestError(error: unknown, what: string, { field }: { field?: string } = {}): AppError {
  if (error instanceof AppError) return error;
  if (error instanceof ConnectError) {
    const code = codes[error.code];
    if (code) {
      const isRequest = errorCodes[code].http < 500;
      const details = { ...(isRequest && field ? { field } : {}), ...readDetails(error) };
      return new AppError(code, error.rawMessage.slice(0, 1_000), { cause: error, details });
    }
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
