import { type RawData, WebSocket } from 'ws';
import { AviaryError } from './aviary-error.ts';
import { isErrorCode } from './error-codes.ts';
import type { ExecEvent, StreamedExecRequest } from './resources.ts';
import { StdinSender, type StdinTaken } from './stdin-sender.ts';
import { errorFromBody, type Transport, unreachable } from './transport.ts';

export interface ExecStreamOptions {
  /** Aborting stops the command and ends the stream with the signal's reason. */
  signal?: AbortSignal;
  /** Deadline of the connection's set-up. Default 30 000. How long the command may run is `timeout_sec`. */
  connectTimeoutMs?: number;
  /** A connection that answers no ping for two of these is given up. Default 15 000. */
  pingIntervalMs?: number;
}

/** Events held for a slow reader before the socket is paused. */
const maxQueuedEvents = 256;
/** Largest frame accepted from the server. */
const maxFrameBytes = 16 * 1024 * 1024;
const maxErrorBodyBytes = 64 * 1024;

/**
 * Runs a command and yields its output as it comes; the last event is `exit`. Leaving the loop early, aborting, or losing the connection
 * stops the command and everything it started, unless it was started with `detach`. There is no limit but `timeout_sec`. A slow reader
 * slows the command's output down, it does not fill memory. Throws AviaryError.
 */
export async function* streamExec(
  transport: Transport,
  { sandboxId, request: { stdin, ...request } }: { sandboxId: string; request: StreamedExecRequest },
  options: ExecStreamOptions = {},
): AsyncGenerator<ExecEvent, void, undefined> {
  options.signal?.throwIfAborted();
  const queue = new EventQueue();
  const socket = openSocket(transport, sandboxId, options);
  const send = (frame: object) => {
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(frame));
  };
  const input = stdin === undefined ? undefined : new StdinSender(send);
  queue.attach(socket, (frame) => input?.onTaken(frame));
  socket.on('open', () => {
    send({ type: 'start', ...request, ...(input ? { stdin: true } : {}) });
    if (input && stdin !== undefined) input.sendAll(stdin).catch((error: unknown) => queue.fail(error));
  });
  const stopPings = keepAlive(socket, queue, options.pingIntervalMs ?? 15_000);
  const onAbort = () => queue.fail(options.signal?.reason);
  options.signal?.addEventListener('abort', onAbort, { once: true });
  let hasEnded = false;
  try {
    for (;;) {
      const event = await queue.next();
      hasEnded = event.type === 'exit';
      yield event;
      if (hasEnded) return;
    }
  } catch (error) {
    options.signal?.throwIfAborted();
    throw error instanceof AviaryError || (input && error === input.failure)
      ? error
      : unreachable(transport.options.apiUrl, error);
  } finally {
    stopPings();
    input?.close();
    options.signal?.removeEventListener('abort', onAbort);
    socket.on('error', () => undefined); // closing while connecting is reported as an error; nobody waits for it
    if (socket.isPaused) socket.resume();
    if (!hasEnded && !request.detach) send({ type: 'stop' });
    socket.close();
  }
}

function openSocket(transport: Transport, sandboxId: string, options: ExecStreamOptions): WebSocket {
  const { apiUrl, apiKey, userAgent } = transport.options;
  const url = `${apiUrl.replace(/^http/, 'ws')}/v1/sandboxes/${encodeURIComponent(sandboxId)}/exec/stream`;
  return new WebSocket(url, {
    headers: { 'User-Agent': userAgent, ...(apiKey ? { 'X-API-Key': apiKey } : {}) },
    handshakeTimeout: options.connectTimeoutMs ?? 30_000,
    maxPayload: maxFrameBytes,
    perMessageDeflate: false,
  });
}

// A half-open connection (sleeping laptop, dropped NAT entry) gives no error by itself.
function keepAlive(socket: WebSocket, queue: EventQueue, intervalMs: number): () => void {
  let unanswered = 0;
  socket.on('pong', () => {
    unanswered = 0;
  });
  const timer = setInterval(() => {
    // While the reader is slow the socket is not read, so neither are pongs.
    if (socket.readyState !== WebSocket.OPEN || socket.isPaused) return;
    if (++unanswered > 2) queue.fail(new AviaryError('unreachable', 'the connection to the sandbox went silent'));
    else socket.ping();
  }, intervalMs);
  timer.unref();
  return () => clearInterval(timer);
}

class EventQueue {
  readonly #events: ExecEvent[] = [];
  #failure: { reason: unknown } | undefined;
  #wake: (() => void) | undefined;
  #socket: WebSocket | undefined;
  #onTaken: (frame: StdinTaken) => void = () => undefined;

  attach(socket: WebSocket, onTaken: (frame: StdinTaken) => void): void {
    this.#socket = socket;
    this.#onTaken = onTaken;
    socket.on('message', (data) => this.#accept(data));
    socket.on('error', (error) => this.fail(error));
    socket.on('close', (code, reason) =>
      this.fail(new Error(`the stream ended before the command did (${code}${reason.length ? ` ${reason}` : ''})`)),
    );
    socket.on('unexpected-response', (_request, response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (text: string) => {
        body = (body + text).slice(0, maxErrorBodyBytes);
      });
      response.on('close', () => {
        const requestId = response.headers['x-request-id'];
        this.fail(
          errorFromBody(body, {
            status: response.statusCode ?? 0,
            apiUrl: socket.url,
            requestId: typeof requestId === 'string' ? requestId : null,
          }),
        );
      });
    });
  }

  /** The next event; throws the failure once everything before it was read. */
  async next(): Promise<ExecEvent> {
    for (;;) {
      const event = this.#events.shift();
      if (event) {
        if (this.#socket?.isPaused && this.#events.length < maxQueuedEvents / 2) this.#socket.resume();
        return event;
      }
      if (this.#failure) throw this.#failure.reason;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  fail(reason: unknown): void {
    this.#failure ??= { reason };
    this.#wake?.();
  }

  #accept(data: RawData): void {
    try {
      const event = parseFrame(data);
      if (event.type === 'stdin') this.#onTaken(event);
      else this.#events.push(event);
    } catch (error) {
      this.fail(error);
    }
    if (this.#events.length >= maxQueuedEvents) this.#socket?.pause();
    this.#wake?.();
  }
}

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

function parseFrame(data: RawData): ExecEvent | ({ type: 'stdin' } & StdinTaken) {
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
      return { type: frame.type, data: Buffer.from(frame.data ?? '', 'base64') };
    case 'exit':
      return {
        type: 'exit',
        exit_code: frame.exit_code ?? -1,
        signal: frame.signal ?? null,
        timed_out: frame.timed_out === true,
      };
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
