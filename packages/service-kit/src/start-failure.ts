import { AppError, errorText } from '@aviary/core';

/**
 * Writes to stderr why a service cannot start, and ends the process with exit code 1. A fault that says what to do is one line, e.g. of a
 * setting; any other comes with its stack.
 */
export function exitAtStart(name: string, error: unknown): never {
  const isExplained = error instanceof AppError && error.code !== 'internal';
  const text = !isExplained && error instanceof Error ? (error.stack ?? errorText(error)) : errorText(error);
  process.stderr.write(`${name}: ${text}\n`);
  process.exit(1);
}
