import { AppError } from '@aviary/core';
import { AviaryError } from '@aviary/sdk';

/** The process's exit codes: a promise to scripts. `run` and `sandbox exec` end with the guest command's own code. */
export const exitCodes = {
  ok: 0,
  failure: 1,
  usage: 2,
  notFound: 3,
  unreachable: 4,
  unauthorized: 5,
  /** The sandbox is in a state in which this cannot be done, or the name is taken. */
  conflict: 6,
  /** A quota, a rate limit or the hosts' capacity is used up: later may work. */
  busy: 7,
  timeout: 124,
  interrupted: 130,
  /** Whoever read the results has gone. */
  brokenPipe: 141,
  terminated: 143,
} as const;

/** A mistake in how a command was called. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** Ends the program with `exitCode` after what was printed: the outcome itself is the message. */
export class ExitWith extends Error {
  override readonly name = 'ExitWith';
  readonly exitCode: number;

  constructor(exitCode: number) {
    super(`exit ${exitCode}`);
    this.exitCode = exitCode;
  }
}

/** The exit code that stands for `error`. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof ExitWith) return error.exitCode;
  if (error instanceof UsageError) return exitCodes.usage;
  if (!(error instanceof AviaryError || error instanceof AppError)) return exitCodes.failure;
  return exitCodes[byCode[error.code]];
}

/** Every code that the API and its client can give, and what it is to a script. */
const byCode = {
  invalid_request: 'usage',
  unauthorized: 'unauthorized',
  forbidden: 'unauthorized',
  not_found: 'notFound',
  method_not_allowed: 'failure',
  already_exists: 'conflict',
  invalid_state: 'conflict',
  conflict: 'conflict',
  stale_epoch: 'conflict',
  payload_too_large: 'failure',
  unsupported_media_type: 'failure',
  idempotency_mismatch: 'failure',
  rate_limited: 'busy',
  quota_exceeded: 'busy',
  cancelled: 'failure',
  internal: 'failure',
  integrity: 'failure',
  not_implemented: 'failure',
  unavailable: 'busy',
  host_unavailable: 'busy',
  no_capacity: 'busy',
  provider_unavailable: 'busy',
  guest_unavailable: 'failure',
  deadline_exceeded: 'timeout',
  disk_full: 'failure',
  unreachable: 'unreachable',
  timeout: 'timeout',
  bad_response: 'failure',
  unknown: 'failure',
} as const satisfies Record<AviaryError['code'] | AppError['code'], keyof typeof exitCodes>;
