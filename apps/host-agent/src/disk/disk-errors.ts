import { AppError } from '@aviary/core';

const codes: Record<string, 'disk_full' | 'already_exists' | 'not_found'> = {
  ENOSPC: 'disk_full',
  EDQUOT: 'disk_full',
  EEXIST: 'already_exists',
  ENOENT: 'not_found',
};

/** An error of the file system as an AppError; `what` is the verb and the object ("create disk layer …"). */
export function fromDiskError(error: unknown, what: string): AppError {
  if (error instanceof AppError) return error;
  const { code = '', message } = error as NodeJS.ErrnoException;
  const known = codes[code] ?? 'internal';
  const advice =
    known === 'disk_full' ? 'no space left on this host; delete sandboxes or templates, or add space' : message;
  return new AppError(known, `cannot ${what}: ${advice}`, { cause: error });
}
