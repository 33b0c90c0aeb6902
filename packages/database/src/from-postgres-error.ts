import { AppError } from '@aviary/core';

/** PostgreSQL's five-character error code (its manual, appendix A), or undefined when `error` is not from the store. */
export function postgresErrorCode(error: unknown): string | undefined {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) ? code : undefined;
}

/** True when a unique index refused the row. */
export function isUniqueViolation(error: unknown): boolean {
  return postgresErrorCode(error) === '23505';
}

/** Classes of codes by which a server says that it cannot work now: connection lost, out of resources, shut down or starting. */
const awayCodes = /^(08|53|57P)/;

/** Of 53: the disk is full. */
const diskFull = '53100';

/**
 * `unavailable` where `error`, of a connection to PostgreSQL or of the embedded store, says that the server is away or has no room; else the
 * error itself. What comes from the server has a code of its own; a plain Error is of the way there, which has broken.
 */
export function fromPostgresError(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const code = postgresErrorCode(error) ?? '';
  if (!awayCodes.test(code) && error.constructor !== Error) return error;
  const message =
    code === diskFull
      ? 'the disk of the database is full; ask again when whoever runs the platform has made room'
      : 'the database does not answer; ask again in a moment';
  return new AppError('unavailable', message, { cause: error, retryAfterSec: 1 });
}
