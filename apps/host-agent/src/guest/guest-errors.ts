import { stripVTControlCharacters } from 'node:util';
import { AppError, type ErrorCode, errorCodes, errorText, isErrorCode } from '@aviary/core';
import { readAppError } from '@aviary/service-kit/connect-errors';
import { ConnectError } from '@connectrpc/connect';

/** Codes that a guest may give as the reason of a failed call; the rest are the host's or the control plane's to say. */
const guestCodes: ReadonlySet<ErrorCode> = new Set([
  'invalid_request',
  'forbidden',
  'not_found',
  'already_exists',
  'invalid_state',
  'conflict',
  'payload_too_large',
  'unsupported_media_type',
  'rate_limited',
  'quota_exceeded',
  'cancelled',
  'not_implemented',
  'no_capacity',
  'deadline_exceeded',
  'disk_full',
] satisfies ErrorCode[]);

/** Longest message taken of a guest, in characters. */
export const maxMessageLength = 1_000;

/** The code that a guest's HTTP answer names, which says more than its status. Undefined for one that is not the guest's to say. */
export function namedGuestCode(name: unknown): ErrorCode | undefined {
  return typeof name === 'string' && isErrorCode(name) && guestCodes.has(name) ? name : undefined;
}

/**
 * Text of a guest as it may go on: into the database, which holds no NUL, into logs and onto terminals, which control characters
 * lead astray. At most `maxLength` characters.
 */
export function guestText(text: string, maxLength: number): string {
  return stripVTControlCharacters(text)
    .replaceAll(/\p{Cc}+/gu, ' ')
    .toWellFormed()
    .slice(0, maxLength);
}

/** What a guest has no more of, as far as it says. */
function resourceOf({ resource }: Record<string, unknown>): { resource?: string } {
  return typeof resource === 'string' ? { resource: guestText(resource, 64) } : {};
}

/** What the guest names as the cause, and the field of our request that it came from. */
const fields = { cwd: 'cwd', command: 'cmd', path: 'path', field: undefined } as const;

function fieldOf(details: Record<string, unknown>): { field?: string } {
  for (const [name, field = undefined] of Object.entries(fields)) {
    const value = details[name];
    if (typeof value === 'string') return { field: guestText(field ?? value, 64) };
  }
  return {};
}

/**
 * What a failed call to the guest agent means to the caller. The guest is not trusted: unknown answers become `guest_unavailable`. `field` is at fault where
 * the guest names none.
 */
export function fromGuestError(error: unknown, what: string, { field }: { field?: string } = {}): AppError {
  if (error instanceof AppError) return error;
  const named = error instanceof ConnectError ? readAppError(error) : undefined;
  if (named) {
    const { code, message } = named;
    // The host's own token always fits, so what the guest refuses is the user that was asked for.
    if (code === 'unauthorized') return refusal('invalid_request', message, { field: 'user', cause: error });
    if (guestCodes.has(code)) {
      const isRequest = errorCodes[code].http < 500;
      return refusal(code, message, {
        ...(isRequest && field ? { field } : {}),
        ...fieldOf(named.details),
        ...resourceOf(named.details),
        cause: error,
      });
    }
  }
  return new AppError(
    'guest_unavailable',
    `cannot ${what}: the guest agent does not answer; it may be overloaded, see the sandbox's status`,
    {
      cause: error,
      details: { reason: guestText(errorText(error), 200) },
    },
  );
}

function refusal(
  code: ErrorCode,
  message: string,
  { cause, ...details }: { field?: string; resource?: string; cause: unknown },
): AppError {
  return new AppError(code, guestText(message, maxMessageLength), { details, cause });
}
