import { toAppError } from '@aviary/core';
import { toConnectError as encode } from '@aviary/service-kit/connect-errors';
import { ConnectError } from '@connectrpc/connect';
import { logInternalError } from '../log-internal-error.ts';
import { fromNodeError } from '../node-error.ts';

/** Any error as what a Connect client gets. What is not of the client's making goes to the console, too. */
export function toConnectError(error: unknown): ConnectError {
  if (error instanceof ConnectError) return error;
  const appError = toAppError(fromNodeError(error));
  logInternalError(appError);
  return encode(appError);
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
