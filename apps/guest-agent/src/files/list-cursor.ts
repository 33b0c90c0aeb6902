import { AppError, fileLimits } from '@aviary/core';

/** A place in a listing as clients hand it back: the last entry's path below the listed directory. */
export function writeListCursor(names: readonly string[]): string {
  return Buffer.from(names.join('/')).toString('base64url');
}

/** Throws `invalid_request` for what {@link writeListCursor} did not make. */
export function readListCursor(cursor: string): string[] {
  const names = Buffer.from(cursor, 'base64url').toString('utf8').split('/');
  if (names.length > fileLimits.maxListDepth || !names.every(isName)) {
    throw new AppError('invalid_request', 'cursor is none that a listing gave; start without one', {
      details: { field: 'cursor' },
    });
  }
  return names;
}

function isName(name: string): boolean {
  return name !== '' && name !== '.' && name !== '..' && !name.includes('\0');
}
