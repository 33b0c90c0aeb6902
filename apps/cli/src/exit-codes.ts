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
  switch (error.code) {
    case 'invalid_request':
      return exitCodes.usage;
    case 'not_found':
      return exitCodes.notFound;
    case 'unreachable':
      return exitCodes.unreachable;
    case 'unauthorized':
    case 'forbidden':
      return exitCodes.unauthorized;
    case 'already_exists':
    case 'invalid_state':
    case 'conflict':
    case 'stale_epoch':
      return exitCodes.conflict;
    case 'rate_limited':
    case 'quota_exceeded':
    case 'no_capacity':
    case 'host_unavailable':
      return exitCodes.busy;
    case 'timeout':
    case 'deadline_exceeded':
      return exitCodes.timeout;
    default:
      return exitCodes.failure;
  }
}
