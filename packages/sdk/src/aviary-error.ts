import type { ErrorCode } from '@aviary/core';

/**
 * Codes that the client itself gives, beside those of the API: `unreachable` (no answer at all), `timeout` (the call's
 * own deadline passed), `bad_response` (something that is not Aviary answered), `unknown` (a code of a newer API).
 */
export type ClientErrorCode = 'unreachable' | 'timeout' | 'bad_response' | 'unknown';

export interface AviaryErrorOptions {
  /** HTTP status; 0 when there was no answer. */
  status?: number;
  requestId?: string | undefined;
  details?: Record<string, unknown> | undefined;
  cause?: unknown;
}

/** The one error that this package throws. Branch on `code`, never on `message`. */
export class AviaryError extends Error {
  override readonly name = 'AviaryError';
  readonly code: ErrorCode | ClientErrorCode;
  /** HTTP status of the answer; 0 when there was none. */
  readonly status: number;
  /** Names the request in the platform's logs; give it when you report a fault. */
  readonly requestId: string | undefined;
  /** Machine-readable facts: the field at fault, the sandbox's current state. */
  readonly details: Record<string, unknown>;

  constructor(code: ErrorCode | ClientErrorCode, message: string, options: AviaryErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.status = options.status ?? 0;
    this.requestId = options.requestId;
    this.details = options.details ?? {};
  }
}
