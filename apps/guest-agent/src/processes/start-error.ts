import { AppError } from '@aviary/core';
import type { LaunchRequest } from './launch-command.ts';

/** Why the kernel would not start a program, in the caller's terms. */
export function startError(error: unknown, { command, cwd, user }: LaunchRequest): AppError {
  const { code } = error as NodeJS.ErrnoException;
  const what = `cannot start ${JSON.stringify(command)}`;
  switch (code) {
    case 'E2BIG':
      return new AppError('invalid_request', `${what}: arguments and environment are too long`, { cause: error });
    case 'EACCES':
      return new AppError('forbidden', `${what} as ${user.name} in ${JSON.stringify(cwd)}: permission denied`, {
        details: { cwd },
        cause: error,
      });
    case 'EAGAIN':
    case 'ENOMEM':
    case 'EMFILE':
    case 'ENFILE':
      return new AppError(
        'quota_exceeded',
        `${what}: the sandbox has no room for another process (${code}); end some`,
        {
          details: { resource: code === 'ENOMEM' ? 'memory' : 'processes' },
          cause: error,
        },
      );
    default:
      return new AppError('internal', `${what}: ${code ?? 'unknown error'}`, { cause: error });
  }
}
