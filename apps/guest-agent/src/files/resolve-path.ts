import { join, normalize } from 'node:path';
import { AppError, fileLimits } from '@aviary/core';
import type { GuestUser } from '../users/user-database.ts';

const maxNameBytes = 255;

/** An absolute path: `~` is the user's home, a relative path starts there. Throws `invalid_request` for what no file can have. */
export function resolvePath(path: string, user: GuestUser): string {
  if (path.includes('\0')) throw new AppError('invalid_request', 'a path cannot hold a NUL byte');
  const expanded = path === '~' || path.startsWith('~/') ? join(user.home, path.slice(1)) : path;
  if (expanded.startsWith('~')) {
    throw new AppError(
      'invalid_request',
      `cannot expand ${JSON.stringify(path)}: only the user's own home has a short form`,
    );
  }
  const absolute = normalize(expanded.startsWith('/') ? expanded : join(user.home, expanded));
  const isTooLong =
    Buffer.byteLength(absolute) > fileLimits.maxPathBytes ||
    absolute.split('/').some((name) => Buffer.byteLength(name) > maxNameBytes);
  if (isTooLong) {
    throw new AppError(
      'invalid_request',
      `the path is too long: a name has at most ${maxNameBytes} bytes, a path ${fileLimits.maxPathBytes}`,
    );
  }
  return absolute.length > 1 && absolute.endsWith('/') ? absolute.slice(0, -1) : absolute;
}
