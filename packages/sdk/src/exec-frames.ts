import { AviaryError } from './aviary-error.ts';
import { fromBase64 } from './base64.ts';
import { isErrorCode } from './error-codes.ts';
import type { ExecEvent } from './resources.ts';
import type { StdinTaken } from './stdin-sender.ts';

interface ServerFrame {
  type?: string;
  pid?: number;
  data?: string;
  exit_code?: number;
  signal?: string | null;
  timed_out?: boolean;
  taken_bytes?: number;
  open?: boolean;
  code?: string;
  message?: string;
  details?: Record<string, unknown>;
}

/** A frame as an event of the stream, or what else the server says. Throws what the frame reports, AviaryError. */
export function parseFrame(data: unknown): ExecEvent | ({ type: 'stdin' } & StdinTaken) | { type: 'pong' } {
  let frame: ServerFrame;
  try {
    frame = JSON.parse(String(data)) as ServerFrame;
  } catch (cause) {
    throw new AviaryError('bad_response', 'the command stream carried something that is not JSON', { cause });
  }
  switch (frame.type) {
    case 'start':
      return { type: 'start', pid: frame.pid ?? 0 };
    case 'stdout':
    case 'stderr':
      return { type: frame.type, data: fromBase64(frame.data ?? '') };
    case 'exit':
      return {
        type: 'exit',
        exit_code: frame.exit_code ?? -1,
        signal: frame.signal ?? null,
        timed_out: frame.timed_out === true,
      };
    case 'pong':
      return { type: 'pong' };
    case 'stdin':
      return { type: 'stdin', taken_bytes: frame.taken_bytes ?? 0, open: frame.open === true };
    case 'error':
      // Fatal or not: a refused frame is one that this client should not have sent, and its input would be lost.
      throw new AviaryError(
        frame.code && isErrorCode(frame.code) ? frame.code : 'unknown',
        frame.message ?? 'the command stream failed',
        { details: frame.details },
      );
    default:
      throw new AviaryError(
        'bad_response',
        `the command stream carried an unknown frame ${JSON.stringify(frame.type)}`,
      );
  }
}
