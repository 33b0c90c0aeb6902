import { AviaryError } from './aviary-error.ts';
import { ConnectionWatch } from './connection-watch.ts';
import { EventQueue } from './event-queue.ts';
import { openSocket } from './open-socket.ts';
import type { ExecEvent, StreamedExecRequest } from './resources.ts';
import { StdinSender } from './stdin-sender.ts';
import { type Transport, unreachable } from './transport.ts';

export interface ExecStreamOptions {
  /** Aborting stops the command and ends the stream with the signal's reason. */
  signal?: AbortSignal;
  /** Deadline of the connection's set-up. Default 30 000. How long the command may run is `timeout_sec`. */
  connectTimeoutMs?: number;
  /** A connection that answers no ping for two of these is given up. Default 15 000. */
  pingIntervalMs?: number;
}

/** Frames of output that may be on their way, or wait here for a slow reader. */
const outputWindow = 256;

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
  const path = `/v1/sandboxes/${encodeURIComponent(sandboxId)}/exec/stream`;
  const { apiUrl } = transport.options;
  const connectTimeoutMs = options.connectTimeoutMs ?? 30_000;
  const credentials = await transport.credentials(options.signal ?? AbortSignal.timeout(connectTimeoutMs));
  const url = `${apiUrl.replace(/^http/, 'ws')}${path}`;
  const socket = await openSocket({ ...transport.options, credentials, url });
  const send = (frame: object) => {
    if (socket.readyState === socket.OPEN) socket.send(JSON.stringify(frame));
  };
  const input = stdin === undefined ? undefined : new StdinSender(send);
  const queue = new EventQueue(outputWindow, (taken_frames) => send({ type: 'output', taken_frames }));
  const watch = new ConnectionWatch(send, (error) => queue.fail(error));
  let isOpen = false;
  let hasLeft = false;
  socket.addEventListener('open', () => {
    isOpen = true;
    watch.keepAlive(options.pingIntervalMs ?? 15_000);
    send({ type: 'start', ...request, ...(input ? { stdin: true } : {}), output_window: outputWindow });
    if (input && stdin !== undefined) input.sendAll(stdin).catch((error: unknown) => queue.fail(error));
  });
  socket.addEventListener('message', ({ data }) => {
    watch.onSign();
    queue.take(data, (taken) => input?.onTaken(taken));
  });
  // What it was is told by `close`, which follows.
  socket.addEventListener('error', () => undefined);
  socket.addEventListener('close', ({ code, reason }) => {
    if (isOpen) queue.fail(new Error(`the stream ended before the command did (${code}${reason ? ` ${reason}` : ''})`));
    else if (!hasLeft) void whyRefused(transport, path, connectTimeoutMs).then((error) => queue.fail(error));
  });
  watch.expectOpen(connectTimeoutMs);
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
    throw error instanceof AviaryError || (input && error === input.failure) ? error : unreachable(apiUrl, error);
  } finally {
    hasLeft = true;
    watch.stop();
    input?.close();
    options.signal?.removeEventListener('abort', onAbort);
    if (!hasEnded && !request.detach) send({ type: 'stop' });
    socket.close();
  }
}

/** A WebSocket does not tell what the server answered instead of opening it; asked by an ordinary request, the server says it again. */
async function whyRefused(transport: Transport, path: string, timeoutMs: number): Promise<AviaryError> {
  const { apiUrl } = transport.options;
  try {
    await transport.json({ method: 'GET', path, timeoutMs, isSentOnce: true });
  } catch (error) {
    // Of a request that opens nothing the server finds fault with that alone.
    if (error instanceof AviaryError && error.code !== 'invalid_request') return error;
  }
  return new AviaryError(
    'unreachable',
    `cannot open a WebSocket to ${apiUrl}; does a proxy on the way let them through?`,
  );
}
