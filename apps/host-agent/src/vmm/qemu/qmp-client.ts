import { connect, type Socket } from 'node:net';
import { AppError } from '@aviary/core';
import { waitFor } from '@aviary/service-kit';

export interface QmpEvent {
  event: string;
  data: Record<string, unknown>;
}

export interface QmpClientOptions {
  /** Called for each event, in order. */
  onEvent?: (event: QmpEvent) => void;
  /** For the greeting and for each command that gives none of its own. Default 10 000. */
  timeoutMs?: number;
}

interface Pending {
  command: string;
  resolve: (value: unknown) => void;
  reject: (error: unknown) => void;
  timer: NodeJS.Timeout;
}

/** Longest message that is taken from a VMM; the largest honest ones are console output of 64 KiB, escaped. */
const maxMessageBytes = 1024 * 1024;
const defaultTimeoutMs = 10_000;

/**
 * Talks to one QEMU over its monitor socket (QEMU Machine Protocol, one JSON object a line). The VMM is not trusted: what it
 * sends is bounded and checked, and any breach of the protocol closes the connection.
 */
export class QmpClient {
  readonly #socket: Socket;
  readonly #timeoutMs: number;
  readonly #onEvent: (event: QmpEvent) => void;
  readonly #pending = new Map<number, Pending>();
  readonly #greeting = Promise.withResolvers<void>();
  #nextId = 1;
  #chunks: Buffer[] = [];
  #bufferedBytes = 0;
  #closedBy: AppError | undefined;
  /** Settles when the connection has ended, however it ended. Never rejects. */
  readonly closed: Promise<void>;

  private constructor(socket: Socket, { onEvent = () => undefined, timeoutMs = defaultTimeoutMs }: QmpClientOptions) {
    this.#socket = socket;
    this.#timeoutMs = timeoutMs;
    this.#onEvent = onEvent;
    this.#greeting.promise.catch(() => undefined);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.closed = promise;
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    socket.on('error', (error) => this.#fail('the connection to the VMM broke', error));
    socket.on('close', () => {
      this.#fail('the VMM closed its control connection');
      resolve();
    });
  }

  /** Connects, waits for the greeting and leaves negotiation mode. Throws `host_unavailable` or `deadline_exceeded`. */
  static async connect(socketPath: string, options: QmpClientOptions = {}): Promise<QmpClient> {
    const socket = await connectSocket(socketPath, options.timeoutMs ?? defaultTimeoutMs);
    const client = new QmpClient(socket, options);
    const timer = setTimeout(
      () => client.#fail('the VMM did not greet in time', undefined, 'deadline_exceeded'),
      client.#timeoutMs,
    );
    try {
      await client.#greeting.promise;
      await client.execute('qmp_capabilities');
      return client;
    } catch (error) {
      client.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Runs one command. Throws `internal` with QEMU's own words when it refuses, `deadline_exceeded` when it is silent. */
  execute(
    command: string,
    args: Record<string, unknown> = {},
    { timeoutMs = this.#timeoutMs }: { timeoutMs?: number } = {},
  ): Promise<unknown> {
    if (this.#closedBy) return Promise.reject(this.#closedBy);
    const id = this.#nextId++;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const timer = setTimeout(() => {
      this.#pending.delete(id);
      reject(new AppError('deadline_exceeded', `the VMM did not answer ${command} within ${timeoutMs} ms`));
    }, timeoutMs);
    this.#pending.set(id, { command, resolve, reject, timer });
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    return promise;
  }

  /** Lets go of the VMM, which runs on. Commands in flight fail. */
  close(): void {
    this.#fail('the control connection was closed');
  }

  #receive(chunk: Buffer): void {
    let rest = chunk;
    for (let end = rest.indexOf(10); end >= 0 && !this.#closedBy; end = rest.indexOf(10)) {
      if (this.#bufferedBytes + end > maxMessageBytes) break;
      const line = Buffer.concat([...this.#chunks, rest.subarray(0, end)]).toString('utf8');
      this.#chunks = [];
      this.#bufferedBytes = 0;
      rest = rest.subarray(end + 1);
      if (line.trim() !== '') this.#handle(line);
    }
    if (this.#closedBy || rest.length === 0) return;
    this.#chunks.push(rest);
    this.#bufferedBytes += rest.length;
    if (this.#bufferedBytes > maxMessageBytes)
      this.#fail(`the VMM sent a message of more than ${maxMessageBytes} bytes`);
  }

  #handle(line: string): void {
    let message: unknown;
    try {
      message = JSON.parse(line);
    } catch (error) {
      this.#fail('the VMM sent something that is not JSON', error);
      return;
    }
    if (!isRecord(message)) {
      this.#fail('the VMM sent something that is not a QMP message');
    } else if ('QMP' in message) {
      this.#greeting.resolve();
    } else if (typeof message['event'] === 'string') {
      this.#onEvent({ event: message['event'], data: isRecord(message['data']) ? message['data'] : {} });
    } else if (typeof message['id'] === 'number') {
      this.#answer(message['id'], message);
    } else {
      // An error without an id: QEMU could not read the command, so no answer will ever come for it.
      this.#fail(`the VMM refused a message: ${describeError(message['error'])}`);
    }
  }

  #answer(id: number, message: Record<string, unknown>): void {
    const pending = this.#pending.get(id);
    if (!pending) return; // Its deadline has passed.
    this.#pending.delete(id);
    clearTimeout(pending.timer);
    if ('return' in message) pending.resolve(message['return']);
    else {
      pending.reject(
        new AppError('internal', `the VMM refused ${pending.command}: ${describeError(message['error'])}`, {
          details: { command: pending.command },
        }),
      );
    }
  }

  #fail(why: string, cause?: unknown, code: 'host_unavailable' | 'deadline_exceeded' = 'host_unavailable'): void {
    if (this.#closedBy) return;
    const error = new AppError(code, why, { cause });
    this.#closedBy = error;
    this.#chunks = [];
    this.#greeting.reject(error);
    for (const { reject, timer } of this.#pending.values()) {
      clearTimeout(timer);
      reject(error);
    }
    this.#pending.clear();
    this.#socket.destroy();
  }
}

/** Connects to a VMM that is just starting: its socket's name appears an instant before anybody listens on it. */
export async function connectListening(
  socketPath: string,
  options: QmpClientOptions & { timeoutMs: number },
): Promise<QmpClient> {
  const { timeoutMs } = options;
  return waitFor({ what: "a connection to the VMM's control socket", timeoutMs, intervalMs: 2 }, async () => {
    try {
      return await QmpClient.connect(socketPath, options);
    } catch (error) {
      const cause = error instanceof Error ? (error.cause as NodeJS.ErrnoException | undefined) : undefined;
      if (cause?.code === 'ECONNREFUSED') return undefined;
      throw error;
    }
  });
}

/** Longest path that fits a Unix socket address, without its terminator (unix(7)). */
export const maxSocketPathBytes = 107;

/** Opens a Unix socket. Throws `host_unavailable` when nobody listens there. */
export function connectSocket(socketPath: string, timeoutMs: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new AppError('deadline_exceeded', `cannot connect to ${socketPath} within ${timeoutMs} ms`));
    }, timeoutMs);
    socket.once('connect', () => {
      clearTimeout(timer);
      // Its owner listens for errors from now on; this one keeps an error in between from being unhandled.
      socket.removeAllListeners('error').on('error', () => undefined);
      resolve(socket);
    });
    socket.once('error', (error) => {
      clearTimeout(timer);
      reject(new AppError('host_unavailable', `cannot connect to the VMM's socket ${socketPath}`, { cause: error }));
    });
  });
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function describeError(error: unknown): string {
  const text = isRecord(error) && typeof error['desc'] === 'string' ? error['desc'] : 'no reason given';
  return text.slice(0, 500);
}
