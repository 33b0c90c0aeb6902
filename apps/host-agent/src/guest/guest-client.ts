import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import { AppError, type ErrorCode, errorCodes } from '@aviary/core';
import { Filesystem } from '@aviary/proto/filesystem';
import { Commands } from '@aviary/proto/guestagent';
import { Process } from '@aviary/proto/process';
import { systemClock, waitFor, withDeadline, writeTraceHeaders } from '@aviary/service-kit';
import { type Client, createClient } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { AttachedCommands } from './attached-commands.ts';
import { fromGuestError, guestText, maxMessageLength, namedGuestCode } from './guest-errors.ts';
import { ProvenAgent, sha256Hex } from './proven-agent.ts';

/** First and longest wait for one answer to `init`, and the pause between two tries. */
const initTryMs = 1_000;
const maxInitTryMs = 8_000;
const initPauseMs = 10;

/** The guest agent's port, at every guest's address. */
const guestAgentPort = 49_983;

export interface GuestInit {
  /** The access token that is valid from now on. */
  accessToken: string;
  hostname: string;
  machineId: string;
  envVars: Record<string, string>;
  defaultUser: string;
}

export interface GuestTokens {
  hostToken: string;
  accessToken: string;
}

/**
 * One guest's agent, as its host speaks to it: only over connections on which it has proved to be that guest. Holds kept-alive
 * connections: dispose it before the guest is paused.
 */
export class GuestClient implements Disposable {
  readonly #address: string;
  readonly #port: number;
  #tokens: GuestTokens;
  /** What the guest was told, or may have been, to take for the host's token next. */
  #nextHostToken: string | undefined;
  readonly #agent = new ProvenAgent({
    ...{ keepAlive: true, maxSockets: 256, maxFreeSockets: 8 },
    hostTokens: () => [this.#tokens.hostToken, ...(this.#nextHostToken === undefined ? [] : [this.#nextHostToken])],
  });
  /** Commands that somebody follows. */
  readonly attached = new AttachedCommands();
  readonly commands: Client<typeof Commands>;
  readonly processes: Client<typeof Process>;
  readonly filesystem: Client<typeof Filesystem>;

  /** `port` is for tests: every guest's agent listens at the same. */
  constructor(address: string, { hostToken, accessToken }: GuestTokens, { port = guestAgentPort } = {}) {
    this.#address = address;
    this.#port = port;
    this.#tokens = { hostToken, accessToken };
    const transport = createConnectTransport({
      baseUrl: `http://${address}:${port}`,
      httpVersion: '1.1',
      nodeOptions: { agent: this.#agent },
      readMaxBytes: 16 * 1024 * 1024,
      interceptors: [
        (next) => (request) => {
          request.header.set('X-Access-Token', this.#tokens.accessToken);
          writeTraceHeaders(request.header);
          return next(request);
        },
      ],
    });
    this.commands = createClient(Commands, transport);
    this.processes = createClient(Process, transport);
    this.filesystem = createClient(Filesystem, transport);
  }

  /** Uses these from now on: the guest was told them. */
  useTokens({ hostToken, accessToken }: GuestTokens): void {
    this.#tokens = { hostToken, accessToken };
  }

  /** Waits until the agent answers. Throws `deadline_exceeded`. */
  async waitHealthy({ timeoutMs, signal }: { timeoutMs: number; signal?: AbortSignal }): Promise<void> {
    await waitFor(
      { what: "the guest agent's first answer", timeoutMs, intervalMs: 5, ...(signal ? { signal } : {}) },
      () => this.isHealthy({ timeoutMs: 500 }),
    );
  }

  /** Whether the agent answers within `timeoutMs`. */
  async isHealthy({ timeoutMs }: { timeoutMs: number }): Promise<boolean> {
    const response = await this.#request({ method: 'GET', path: '/health', timeoutMs }).catch(() => undefined);
    response?.resume();
    return response !== undefined && response.statusCode === 204;
  }

  /**
   * Gives the guest its identity, clock and entropy, and uses its new tokens from then on. Repeats until `timeoutMs`, because a
   * restored guest may need a moment. `hostToken` is the one to be valid from then on. A guest may have taken the new tokens while
   * its answer was lost: both are tried. `isFrozen`: lets its user processes go on after all that. Resolves with what the guest
   * could not do, for people; empty when it did all.
   */
  async init(
    init: GuestInit,
    {
      timeoutMs,
      hostToken = this.#tokens.hostToken,
      isFrozen = false,
      signal,
    }: { timeoutMs: number; hostToken?: string; isFrozen?: boolean; signal?: AbortSignal },
  ): Promise<string> {
    const deadline = performance.now() + timeoutMs;
    const present = this.#tokens.hostToken;
    this.#nextHostToken = hostToken;
    const tokens = present === hostToken ? [present] : [present, hostToken];
    const body = {
      ...init,
      thaw: isFrozen,
      ...(present === hostToken ? {} : { hostTokenSha256: sha256Hex(hostToken) }),
    };
    let refusals = 0;
    let last: unknown;
    for (let attempt = 0; ; attempt++) {
      signal?.throwIfAborted();
      const leftMs = deadline - performance.now();
      if (leftMs <= 0) throw fromGuestError(last, 'initialise the guest');
      const token = tokens[refusals % tokens.length] ?? present;
      try {
        const content = { ...body, timestampMs: Date.now(), entropyBase64: randomBytes(64).toString('base64') };
        // Short at first, as a request may be lost while the network of a restored guest comes up; longer for a slow guest.
        const headers = await this.#internal('/init', content, {
          timeoutMs: Math.min(initTryMs * 2 ** attempt, maxInitTryMs, leftMs),
          token,
        });
        this.#tokens = { hostToken, accessToken: init.accessToken };
        this.#nextHostToken = undefined;
        return guestText(String(headers['x-aviary-skipped'] ?? ''), 200);
      } catch (error) {
        last = error;
        if (error instanceof AppError && error.code === 'unauthorized' && ++refusals >= tokens.length)
          throw new AppError('guest_unavailable', 'cannot initialise the guest: it refuses its tokens', {
            cause: error,
          });
        await systemClock.sleep(initPauseMs, signal);
      }
    }
  }

  /** Stops all user processes and flushes the guest's file systems. The agent itself goes on. */
  async freeze({ timeoutMs }: { timeoutMs: number }): Promise<void> {
    await this.#internal('/freeze', {}, { timeoutMs });
  }

  async thaw({ timeoutMs }: { timeoutMs: number }): Promise<void> {
    await this.#internal('/thaw', { timestampMs: Date.now() }, { timeoutMs });
  }

  /**
   * Streams `content` into a file in the guest and resolves with its size. The file is replaced once `content` has ended: when it throws, or
   * `signal` aborts, the guest keeps the one it had. Throws `disk_full`, `invalid_request`, …
   */
  async writeFile({
    path,
    user,
    content,
    signal,
  }: {
    path: string;
    user: string;
    content: AsyncIterable<Uint8Array>;
    signal: AbortSignal;
  }): Promise<number> {
    const request = http.request({
      host: this.#address,
      port: this.#port,
      method: 'POST',
      path: `/files?${fileQuery(path, user)}`,
      agent: this.#agent,
      headers: { 'X-Access-Token': this.#tokens.accessToken, 'Content-Type': 'application/octet-stream' },
      signal,
    });
    const answered = new Promise<http.IncomingMessage>((resolve, reject) => {
      request.on('response', resolve);
      request.on('error', reject);
    });
    const sent = sendBody(request, content, signal);
    sent.catch((error: Error) => request.destroy(error));
    try {
      // A guest that refuses answers before the body ends, and then nobody may send any more of it.
      const response = await answered;
      await throwForFile(response);
      response.resume();
      return await sent;
    } catch (error) {
      request.destroy();
      throw fromGuestError(error, 'write the file');
    }
  }

  /** Opens a file in the guest for reading. What is read ends with `signal`, whatever the guest does. */
  async readFile({
    path,
    user,
    signal,
  }: {
    path: string;
    user: string;
    signal: AbortSignal;
  }): Promise<AsyncIterable<Buffer>> {
    const response = await this.#request({
      method: 'GET',
      path: `/files?${fileQuery(path, user)}`,
      // The guest may end a file earlier than it told its size.
      headers: { TE: 'trailers' },
      timeoutMs: 30_000,
      signal,
    });
    const onAbort = () => response.destroy(new Error('aborted'));
    signal.addEventListener('abort', onAbort, { once: true });
    response.once('close', () => signal.removeEventListener('abort', onAbort));
    await throwForFile(response);
    return response;
  }

  async #internal(
    route: string,
    body: object,
    { timeoutMs, token = this.#tokens.hostToken }: { timeoutMs: number; token?: string },
  ): Promise<http.IncomingHttpHeaders> {
    const response = await this.#request({
      method: 'POST',
      path: route,
      timeoutMs,
      body: JSON.stringify(body),
      headers: { 'X-Aviary-Host-Token': token },
    });
    await throwForStatus(response);
    response.resume();
    return response.headers;
  }

  async #request(options: {
    method: string;
    path: string;
    timeoutMs: number;
    headers?: Record<string, string>;
    body?: string;
    signal?: AbortSignal;
  }): Promise<http.IncomingMessage> {
    const { method, path, timeoutMs, headers, body, signal: parent } = options;
    const deadline = {
      what: `${method} ${path.split('?')[0]} to the guest agent`,
      timeoutMs,
      ...(parent ? { parent } : {}),
    };
    return withDeadline(deadline, (signal) => {
      return new Promise<http.IncomingMessage>((resolve, reject) => {
        const request = http.request({
          host: this.#address,
          port: this.#port,
          method,
          path,
          agent: this.#agent,
          headers: {
            'X-Access-Token': this.#tokens.accessToken,
            ...(body === undefined
              ? {}
              : { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) }),
            ...headers,
          },
        });
        writeTraceHeaders({ set: (name, value) => request.setHeader(name, value) });
        const onAbort = () => request.destroy(new Error('aborted'));
        signal.addEventListener('abort', onAbort, { once: true });
        request.on('response', (response) => {
          signal.removeEventListener('abort', onAbort);
          resolve(response);
        });
        request.on('error', reject);
        request.end(body);
      });
    });
  }

  /** Ends all connections, calls under way included; later calls open new ones. */
  closeConnections(): void {
    this.#agent.destroy();
  }

  /** Ends the connections that no call is using. */
  closeIdleConnections(): void {
    for (const sockets of Object.values(this.#agent.freeSockets)) for (const socket of sockets ?? []) socket.destroy();
  }

  [Symbol.dispose](): void {
    this.#agent.destroy();
  }
}

/** Sends a body piece by piece and resolves with its size. */
async function sendBody(
  request: http.ClientRequest,
  content: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<number> {
  let size = 0;
  for await (const chunk of content) {
    size += chunk.byteLength;
    if (!request.write(chunk)) await once(request, 'drain', { signal });
  }
  request.end();
  return size;
}

function fileQuery(path: string, user: string): string {
  return new URLSearchParams({ path, ...(user ? { username: user } : {}) }).toString();
}

const httpCodes: Record<number, ErrorCode> = {
  400: 'invalid_request',
  401: 'unauthorized',
  403: 'forbidden',
  404: 'not_found',
  409: 'already_exists',
  413: 'payload_too_large',
  507: 'disk_full',
};

async function readBody(response: http.IncomingMessage, maxBytes: number): Promise<string> {
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) {
    text += chunk;
    if (text.length > maxBytes)
      throw new AppError('guest_unavailable', 'the guest agent answered with more than it may');
  }
  return text;
}

/** An error of `/files` in terms of the caller's request. Our token fits, so what is not authorized is the user that was named. */
async function throwForFile(response: http.IncomingMessage): Promise<void> {
  try {
    await throwForStatus(response);
  } catch (error) {
    if (!(error instanceof AppError) || errorCodes[error.code].http >= 500) throw error;
    const isUser = error.code === 'unauthorized';
    throw new AppError(isUser ? 'invalid_request' : error.code, error.message, {
      details: { field: isUser ? 'user' : 'path', ...error.details },
      cause: error,
    });
  }
}

async function throwForStatus(response: http.IncomingMessage): Promise<void> {
  const status = response.statusCode ?? 500;
  if (status < 300) return;
  const text = await readBody(response, 65_536).catch(() => '');
  let message = `the guest agent answered ${status}`;
  try {
    const parsed = JSON.parse(text) as { message?: unknown };
    if (typeof parsed.message === 'string') message = guestText(parsed.message, maxMessageLength);
  } catch {
    // the status stands by itself
  }
  const code = namedGuestCode(response.headers['x-aviary-code']) ?? httpCodes[status] ?? 'guest_unavailable';
  throw new AppError(code, message);
}
