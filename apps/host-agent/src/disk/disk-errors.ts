import { AppError, errorText } from '@aviary/core';
import { fromNodeError, nodeErrorCode } from '@aviary/service-kit';

const codes: Record<string, 'already_exists' | 'not_found'> = {
  EEXIST: 'already_exists',
  ENOENT: 'not_found',
};

/** An error of the file system as an AppError; `what` is the verb and the object ("create disk layer …"). */
export function fromDiskError(error: unknown, what: string): AppError {
  const known = fromNodeError(error, what);
  if (known instanceof AppError) return known;
  return new AppError(codes[nodeErrorCode(error) ?? ''] ?? 'internal', `cannot ${what}: ${errorText(error)}`, {
    cause: error,
  });
}
