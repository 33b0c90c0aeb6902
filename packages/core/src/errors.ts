/** Every error code that leaves the product, with its HTTP status and Connect code. Closed: add here first. */
export const errorCodes = {
  invalid_request: { http: 400, connect: 'invalid_argument' },
  unauthorized: { http: 401, connect: 'unauthenticated' },
  forbidden: { http: 403, connect: 'permission_denied' },
  not_found: { http: 404, connect: 'not_found' },
  method_not_allowed: { http: 405, connect: 'unimplemented' },
  already_exists: { http: 409, connect: 'already_exists' },
  invalid_state: { http: 409, connect: 'failed_precondition' },
  conflict: { http: 409, connect: 'aborted' },
  stale_epoch: { http: 409, connect: 'failed_precondition' },
  payload_too_large: { http: 413, connect: 'resource_exhausted' },
  unsupported_media_type: { http: 415, connect: 'invalid_argument' },
  idempotency_mismatch: { http: 422, connect: 'invalid_argument' },
  rate_limited: { http: 429, connect: 'resource_exhausted' },
  quota_exceeded: { http: 429, connect: 'resource_exhausted' },
  cancelled: { http: 499, connect: 'canceled' },
  internal: { http: 500, connect: 'internal' },
  integrity: { http: 500, connect: 'data_loss' },
  not_implemented: { http: 501, connect: 'unimplemented' },
  unavailable: { http: 503, connect: 'unavailable' },
  host_unavailable: { http: 503, connect: 'unavailable' },
  no_capacity: { http: 503, connect: 'resource_exhausted' },
  provider_unavailable: { http: 503, connect: 'unavailable' },
  guest_unavailable: { http: 502, connect: 'unavailable' },
  deadline_exceeded: { http: 504, connect: 'deadline_exceeded' },
  disk_full: { http: 507, connect: 'resource_exhausted' },
} as const satisfies Record<string, { http: number; connect: string }>;

export type ErrorCode = keyof typeof errorCodes;

/** True for a string that is one of {@link errorCodes}: for reading a code that came over the wire. */
export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(errorCodes, text);
}

export interface AppErrorOptions {
  /** Machine-readable facts for the caller: the field at fault, the current state. Never secrets. */
  details?: Record<string, unknown>;
  /** What went wrong underneath: for logs, never for the caller. */
  cause?: unknown;
  /** Nothing was done, and asking the same again after so many seconds may help: clients do so by themselves. */
  retryAfterSec?: number;
}

/** The one error that crosses module boundaries. `message` names the verb, the object and what to do next. */
export class AppError extends Error {
  override readonly name = 'AppError';
  readonly code: ErrorCode;
  readonly details: Record<string, unknown>;
  readonly retryAfterSec: number | undefined;

  constructor(code: ErrorCode, message: string, options: AppErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.details = options.details ?? {};
    this.retryAfterSec = options.retryAfterSec;
  }
}

/** `error` as an AppError: itself, or `internal` with a generic message and the original as its cause. */
export function toAppError(error: unknown): AppError {
  if (error instanceof AppError) return error;
  return new AppError('internal', 'something went wrong on our side', {
    cause: error,
  });
}

/** The text of an error for logs and stored reasons. */
export function errorText(error: unknown): string {
  if (error instanceof AggregateError)
    return [error.message, ...error.errors.map(errorText)].filter(Boolean).join('; ');
  return error instanceof Error ? error.message : String(error);
}
