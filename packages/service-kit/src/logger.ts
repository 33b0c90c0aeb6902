import pino, { type Logger } from 'pino';
import { currentTrace } from './trace.ts';

export type { Logger };

/**
 * A JSON logger on standard error (standard output belongs to results). Level from `level`, default `info`. Every line has the
 * ids of the request and operation that it was written for.
 */
export function createLogger({ name, level = 'info' }: { name: string; level?: string }): Logger {
  return pino(
    {
      name,
      level,
      base: { name },
      mixin: () => ({ ...currentTrace() }),
      redact: ['token', 'accessToken', 'password', 'authorization', '*.token', '*.accessToken', '*.password'],
    },
    pino.destination({ fd: 2, sync: true }),
  );
}

/** A logger that says nothing: for tests. */
export const silentLogger: Logger = pino({ level: 'silent' });
