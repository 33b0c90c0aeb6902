import { type AppError, errorCodes, errorText, toAppError } from '@aviary/core';
import { Code, ConnectError } from '@connectrpc/connect';
import { fromNodeError } from '../node-error.ts';

const connectCodes = {
  invalid_argument: Code.InvalidArgument,
  unauthenticated: Code.Unauthenticated,
  permission_denied: Code.PermissionDenied,
  not_found: Code.NotFound,
  unimplemented: Code.Unimplemented,
  already_exists: Code.AlreadyExists,
  failed_precondition: Code.FailedPrecondition,
  aborted: Code.Aborted,
  resource_exhausted: Code.ResourceExhausted,
  canceled: Code.Canceled,
  internal: Code.Internal,
  data_loss: Code.DataLoss,
  unavailable: Code.Unavailable,
  deadline_exceeded: Code.DeadlineExceeded,
} as const satisfies Record<(typeof errorCodes)[keyof typeof errorCodes]['connect'], Code>;

/** Any error as what a Connect client gets: the code, our own code and details in its metadata. */
export function toConnectError(error: unknown): ConnectError {
  if (error instanceof ConnectError) return error;
  const appError: AppError = toAppError(fromNodeError(error));
  if (appError.code === 'internal') console.error(`internal error: ${errorText(appError.cause ?? appError)}`);
  return new ConnectError(appError.message, connectCodes[errorCodes[appError.code].connect], {
    'x-aviary-code': appError.code,
    'x-aviary-details': asciiJson(appError.details),
  });
}

/** Wraps the handler of a unary call so that its errors reach the client as {@link toConnectError} makes them. */
export function unary<Args extends unknown[], Result>(
  handle: (...args: Args) => Promise<Result> | Result,
): (...args: Args) => Promise<Result> {
  return async (...args) => {
    try {
      return await handle(...args);
    } catch (error) {
      throw toConnectError(error);
    }
  };
}

/** The same for a call that answers a stream. */
export function serverStream<Args extends unknown[], Result>(
  handle: (...args: Args) => AsyncGenerator<Result>,
): (...args: Args) => AsyncGenerator<Result> {
  return async function* (...args) {
    try {
      yield* handle(...args);
    } catch (error) {
      throw toConnectError(error);
    }
  };
}

/** JSON without characters that a header cannot hold. */
function asciiJson(value: unknown): string {
  return JSON.stringify(value).replace(
    /[\u007f-\uffff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
