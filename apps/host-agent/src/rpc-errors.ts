import { errorCodes, toAppError } from '@aviary/core';
import { fromNodeError } from '@aviary/service-kit';
import { Code, ConnectError } from '@connectrpc/connect';

const connectCodes: Record<string, Code> = {
  canceled: Code.Canceled,
  invalid_argument: Code.InvalidArgument,
  deadline_exceeded: Code.DeadlineExceeded,
  not_found: Code.NotFound,
  already_exists: Code.AlreadyExists,
  permission_denied: Code.PermissionDenied,
  resource_exhausted: Code.ResourceExhausted,
  failed_precondition: Code.FailedPrecondition,
  aborted: Code.Aborted,
  unimplemented: Code.Unimplemented,
  internal: Code.Internal,
  unavailable: Code.Unavailable,
  data_loss: Code.DataLoss,
  unauthenticated: Code.Unauthenticated,
};

/** An error as it goes to the control plane: the product's own code and details travel in the metadata. */
export function toConnectError(error: unknown): ConnectError {
  if (error instanceof ConnectError) return error;
  const appError = toAppError(fromNodeError(error));
  const code = connectCodes[errorCodes[appError.code].connect] ?? Code.Unknown;
  const metadata = { 'x-aviary-code': appError.code, 'x-aviary-details': asciiJson(appError.details) };
  return new ConnectError(appError.message, code, metadata, undefined, error);
}

/** JSON without characters that a header cannot hold. */
function asciiJson(value: unknown): string {
  return JSON.stringify(value).replace(
    /[\u007f-\uffff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
