import type { Route } from '@aviary/api-contract';
import type { Static, TSchema } from 'typebox';
import type { RawData, WebSocket } from 'ws';
import { findFault } from './answer-check.ts';
import { compileValidator } from './validator.ts';

export type Frames = NonNullable<Route['frames']>;

/** A WebSocket of the contract: text frames in, checked by their schema, and out, of the types that it names. */
export interface FrameSocket<Client, Server> {
  /** Resolves when the frame has left, so that a slow reader slows its sender, and never fills our memory. */
  send(frame: Server): Promise<void>;
  /** Hears frames from now on; `onInvalid` is told what is wrong with one that the contract does not know. */
  listen(listener: { onFrame: (frame: Client) => void; onInvalid: (problem: string) => void }): void;
  /** Aborts when the client has gone. */
  readonly closed: AbortSignal;
  close(code?: number): void;
  /** Ends it against the client's will: `closed` aborts at once, however long the client takes to close. */
  end(reason: string): void;
}

/** Policy violation (RFC 6455, 7.4.1). */
const refusedCode = 1008;
/** The most that fits into a frame that closes, in bytes. */
const maxReasonBytes = 123;
/** A client that does not close by itself after this is cut off. */
const closeTimeoutMs = 2_000;

export type SocketOf<F extends Frames> = FrameSocket<Static<F['client']>, Static<F['server']>>;

/** Wraps a socket that was just opened. With `isChecked`, a frame of ours that does not fit its schema throws. */
export function frameSocket<F extends Frames>(
  socket: WebSocket,
  { frames, isChecked }: { frames: F; isChecked: boolean },
): SocketOf<F> {
  const gone = new AbortController();
  socket.on('close', () => gone.abort());
  socket.on('error', () => socket.terminate());
  return {
    closed: gone.signal,
    send: async (frame) => {
      const fault = isChecked ? findFault(frames.server, frame) : undefined;
      if (fault !== undefined) throw new Error(`a frame does not fit its schema: ${fault}`);
      await send(socket, JSON.stringify(frame));
    },
    listen: ({ onFrame, onInvalid }) => {
      socket.on('message', (data) => {
        const frame = readFrame(data);
        const problem = frameProblem(frames.client, frame);
        if (problem === undefined) onFrame(frame as Static<F['client']>);
        else onInvalid(problem);
      });
    },
    close: (code = 1000) => socket.close(code),
    end: (reason) => {
      socket.close(refusedCode, Buffer.from(reason).subarray(0, maxReasonBytes));
      const timer = setTimeout(() => socket.terminate(), closeTimeoutMs);
      socket.once('close', () => clearTimeout(timer));
      gone.abort();
    },
  };
}

function frameProblem(schema: TSchema, frame: unknown): string | undefined {
  if (frame === undefined) return 'it is not JSON';
  const validate = compileValidator(schema, 'body');
  if (validate(frame)) return undefined;
  const [first] = validate.errors ?? [];
  return `${first?.instancePath ?? ''} ${first?.message ?? 'is not valid'}`.trim();
}

function readFrame(data: RawData): unknown {
  try {
    return JSON.parse(Array.isArray(data) ? Buffer.concat(data).toString() : Buffer.from(data as Buffer).toString());
  } catch {
    return undefined; // told as a frame that is not JSON
  }
}

function send(socket: WebSocket, text: string): Promise<void> {
  return new Promise((resolve) => {
    if (socket.readyState !== socket.OPEN) resolve();
    else socket.send(text, () => resolve());
  });
}
