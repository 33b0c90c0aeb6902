import { AppError, errorCodes, isErrorCode, toAppError } from '@aviary/core';
import { ErrorInfoSchema } from '@aviary/proto/errors';
import type { DescService, JsonObject } from '@bufbuild/protobuf';
import { type Client, Code, ConnectError } from '@connectrpc/connect';

const connectCodes = {
  aborted: Code.Aborted,
  already_exists: Code.AlreadyExists,
  canceled: Code.Canceled,
  data_loss: Code.DataLoss,
  deadline_exceeded: Code.DeadlineExceeded,
  failed_precondition: Code.FailedPrecondition,
  internal: Code.Internal,
  invalid_argument: Code.InvalidArgument,
  not_found: Code.NotFound,
  permission_denied: Code.PermissionDenied,
  resource_exhausted: Code.ResourceExhausted,
  unauthenticated: Code.Unauthenticated,
  unavailable: Code.Unavailable,
  unimplemented: Code.Unimplemented,
} as const satisfies Record<(typeof errorCodes)[keyof typeof errorCodes]['connect'], Code>;

/** Longest text taken of an error that came over the wire, in characters. */
const maxMessageLength = 4_000;

/** Any error as a Connect server sends it: our code and details travel with it as a typed detail. What is not ours tells nothing of itself. */
export function toConnectError(error: unknown): ConnectError {
  if (error instanceof ConnectError) return error;
  const { code, message, details } = toAppError(error);
  const info = { desc: ErrorInfoSchema, value: { code, details: toJson(details) } };
  return new ConnectError(message, connectCodes[errorCodes[code].connect], undefined, [info], error);
}

/** The error of ours that a Connect error carries; undefined when it comes from something else: a transport, or another program. */
export function readAppError(error: ConnectError): AppError | undefined {
  const [info] = error.findDetails(ErrorInfoSchema);
  if (!info || !isErrorCode(info.code)) return undefined;
  const details = info.details ?? {};
  return new AppError(info.code, error.rawMessage.slice(0, maxMessageLength), { details, cause: error });
}

/** A client whose calls throw what `translate` makes of their errors, streams included. */
export function withTranslatedErrors<S extends DescService>(
  service: S,
  client: Client<S>,
  translate: (error: unknown) => AppError,
): Client<S> {
  const methods = client as unknown as Record<string, (...args: unknown[]) => unknown>;
  const translated = service.methods.map(({ localName, methodKind }) => {
    const call = methods[localName];
    if (!call) throw new Error(`the client has no method ${localName}`);
    const isStream = methodKind === 'server_streaming' || methodKind === 'bidi_streaming';
    return [
      localName,
      isStream
        ? (...args: unknown[]) => translateStream(call(...args) as AsyncIterable<unknown>, translate)
        : (...args: unknown[]) =>
            (call(...args) as Promise<unknown>).catch((error: unknown) => {
              throw translate(error);
            }),
    ];
  });
  return Object.fromEntries(translated) as Client<S>;
}

async function* translateStream(
  messages: AsyncIterable<unknown>,
  translate: (error: unknown) => AppError,
): AsyncGenerator<unknown> {
  try {
    yield* messages;
  } catch (error) {
    throw translate(error);
  }
}

/** Details as JSON can hold them: a Struct refuses what it cannot, and details must never hide the error that they belong to. */
function toJson(details: Record<string, unknown>): JsonObject {
  return JSON.parse(JSON.stringify(details)) as JsonObject;
}
