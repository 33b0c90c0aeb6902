import { AppError } from '@aviary/core';
import { readAppError } from '@aviary/service-kit/connect-errors';
import { Code, ConnectError } from '@connectrpc/connect';

const messages = {
  unavailable: "the sandbox's host does not answer; try again, or look at the host's agent",
  broken: "the connection to the sandbox's host broke; what was asked may have been done: look before you ask again",
  deadline: 'the host did not answer in time; the sandbox may still do what was asked',
} as const;

/** An agent's error as ours: the code and details that it names, or what the transport tells. */
export function fromConnectError(error: unknown): AppError {
  if (error instanceof AppError) return error;
  const connect = ConnectError.from(error);
  const named = readAppError(connect);
  if (named) return named;
  switch (connect.code) {
    case Code.Unavailable:
      return new AppError('host_unavailable', messages.unavailable, { cause: error });
    case Code.DeadlineExceeded:
      return new AppError('deadline_exceeded', messages.deadline, { cause: error });
    case Code.Canceled:
    case Code.Aborted:
      // An agent that ends takes its connections along. Callers that broke the call off themselves look at their own signal first.
      return new AppError('host_unavailable', messages.broken, { cause: error });
    case Code.Unimplemented:
      return new AppError('not_implemented', "the sandbox's host cannot do this; upgrade its agent", { cause: error });
    default:
      return new AppError('internal', "the sandbox's host failed", {
        cause: error,
      });
  }
}
