import { AppError, fileLimits } from '@aviary/core';

/** A place in a listing as clients hand it back: the last entry's names, from the listed directory down. */
export function writeListCursor(names: readonly string[]): string {
  return Buffer.from(JSON.stringify(names)).toString('base64url');
}

/** Throws `invalid_request` for what {@link writeListCursor} did not make. */
export function readListCursor(cursor: string): string[] {
  let names: unknown;
  try {
    names = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'));
  } catch {
    // not JSON: refused below
  }
  const isPlace =
    Array.isArray(names) && names.length > 0 && names.length <= fileLimits.maxListDepth && names.every(isName);
  if (!isPlace) {
    throw new AppError('invalid_request', 'cursor is none that a listing gave; start without one', {
      details: { field: 'cursor' },
    });
  }
  return names as string[];
}

function isName(value: unknown): boolean {
  return typeof value === 'string' && value !== '' && value !== '.' && value !== '..' && !/[/\0]/.test(value);
}
