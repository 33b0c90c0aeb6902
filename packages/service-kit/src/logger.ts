import pino, { type Logger } from 'pino';

export type { Logger };

/** A JSON logger on standard error (standard output belongs to results). Level from `level`, default `info`. */
export function createLogger({ name, level = 'info' }: { name: string; level?: string }): Logger {
  return pino(
    {
      name,
      level,
      base: { name },
      redact: ['token', 'accessToken', 'password', 'authorization', '*.token', '*.accessToken', '*.password'],
    },
    pino.destination({ fd: 2, sync: true }),
  );
}

/** A logger that says nothing: for tests. */
export const silentLogger: Logger = pino({ level: 'silent' });
