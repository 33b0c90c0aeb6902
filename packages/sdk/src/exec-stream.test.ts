import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type WebSocket, WebSocketServer } from 'ws';
import { AviaryClient, type ExecEvent } from './index.ts';

let server: Server;
let sockets: WebSocketServer;
let received: Record<string, unknown>[];
let keys: (string | undefined)[];
let onStart: (socket: WebSocket) => void;
let answersPings: boolean;
let client: AviaryClient;

const frame = (socket: WebSocket, value: unknown) => socket.send(JSON.stringify(value));
const base64 = (text: string) => Buffer.from(text).toString('base64');

beforeEach(async () => {
  received = [];
  keys = [];
  onStart = () => undefined;
  answersPings = true;
  const body = JSON.stringify({ error: { code: 'not_found', message: 'no such sandbox', request_id: 'req-9' } });
  server = createServer((_request, response) => response.writeHead(404).end(body));
  sockets = new WebSocketServer({ noServer: true });
  server.on('upgrade', (request, socket, head) => {
    keys.push(request.headers['x-api-key']?.toString());
    if (request.url !== '/v1/sandboxes/sb-1/exec/stream') {
      socket.end(`HTTP/1.1 404 Not Found\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`);
      return;
    }
    sockets.handleUpgrade(request, socket, head, (accepted) => {
      accepted.on('message', (data) => {
        const message = JSON.parse(String(data)) as Record<string, unknown>;
        if (message['type'] === 'ping') {
          if (answersPings) frame(accepted, { type: 'pong' });
          return;
        }
        received.push(message);
        if (message['type'] === 'start') onStart(accepted);
      });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  client = new AviaryClient({
    apiUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    apiKey: 'avy_test',
  });
});

afterEach(async () => {
  for (const socket of sockets.clients) socket.terminate();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

async function collect(events: AsyncIterable<ExecEvent>): Promise<ExecEvent[]> {
  const all: ExecEvent[] = [];
  for await (const event of events) all.push(event);
  return all;
}

describe.each([
  ["the platform's WebSocket", globalThis.WebSocket],
  ['no WebSocket of its own', undefined],
])('execStream on a platform with %s', (_name, platform) => {
  beforeEach(() => void vi.stubGlobal('WebSocket', platform));
  afterEach(() => void vi.unstubAllGlobals());

  it('yields output in order and ends with the exit', async () => {
    onStart = (socket) => {
      frame(socket, { type: 'start', pid: 7 });
      frame(socket, { type: 'stdout', data: base64('one ') });
      frame(socket, { type: 'stderr', data: base64('two') });
      frame(socket, { type: 'exit', exit_code: 3 });
    };
    const events = await collect(client.sandboxes.execStream('sb-1', { cmd: 'x', args: ['y'], timeout_sec: 5 }));
    expect(events).toEqual([
      { type: 'start', pid: 7 },
      { type: 'stdout', data: Buffer.from('one ') },
      { type: 'stderr', data: Buffer.from('two') },
      { type: 'exit', exit_code: 3, signal: null, timed_out: false },
    ]);
    expect(received[0]).toEqual({ type: 'start', cmd: 'x', args: ['y'], timeout_sec: 5, output_window: 256 });
    expect(keys).toEqual(['avy_test']);
  });

  it('loses nothing of an output that is larger than its queue', async () => {
    const count = 5_000;
    onStart = (socket) => {
      for (let index = 0; index < count; index++) frame(socket, { type: 'stdout', data: base64(`${index};`) });
      frame(socket, { type: 'exit', exit_code: 0 });
    };
    const events = await collect(client.sandboxes.execStream('sb-1', 'x'));
    const text = events.map((event) => (event.type === 'stdout' ? Buffer.from(event.data).toString() : '')).join('');
    expect(text).toBe(Array.from({ length: count }, (_, index) => `${index};`).join(''));
  });

  it('tells what its reader has taken, and never what waits for it', async () => {
    const count = 256;
    onStart = (socket) => {
      for (let index = 0; index < count; index++) frame(socket, { type: 'stdout', data: base64('x') });
      frame(socket, { type: 'stdin', taken_bytes: 0, open: true });
    };
    const events = client.sandboxes.execStream('sb-1', 'x');
    const taken = () => received.filter(({ type }) => type === 'output').map((message) => message['taken_frames']);
    for (let index = 0; index < count / 2 - 1; index++) await events.next();
    // Whoever answers this has seen all that the client sent before.
    const pong = new Promise((resolve) => [...sockets.clients][0]?.once('pong', resolve).ping());
    await pong;
    expect(taken()).toEqual([]);
    for (let index = 0; index <= count / 2; index++) await events.next();
    await expect.poll(taken).toEqual([128, 256]);
    await events.return();
  });

  it('stops the command when the reader leaves', async () => {
    const stopped = Promise.withResolvers<void>();
    onStart = (socket) => {
      socket.on('close', () => stopped.resolve());
      frame(socket, { type: 'start', pid: 7 });
    };
    for await (const _event of client.sandboxes.execStream('sb-1', 'x')) break;
    await stopped.promise;
    expect(received.at(-1)).toEqual({ type: 'stop' });
  });

  it('stops the command and rejects with the reason when aborted', async () => {
    const stopped = Promise.withResolvers<void>();
    const controller = new AbortController();
    onStart = (socket) => {
      socket.on('close', () => stopped.resolve());
      controller.abort('SIGINT');
    };
    const { signal } = controller;
    await expect(collect(client.sandboxes.execStream('sb-1', 'x', { signal }))).rejects.toBe('SIGINT');
    await stopped.promise;
    expect(received.at(-1)).toEqual({ type: 'stop' });
  });

  it('leaves a detached command alone when the reader leaves', async () => {
    const closed = Promise.withResolvers<void>();
    onStart = (socket) => {
      socket.on('close', () => closed.resolve());
      frame(socket, { type: 'start', pid: 7 });
    };
    for await (const _event of client.sandboxes.execStream('sb-1', { cmd: 'x', detach: true })) break;
    await closed.promise;
    expect(received).toEqual([{ type: 'start', cmd: 'x', detach: true, output_window: 256 }]);
  });

  it('tells how the command ended when not by itself', async () => {
    onStart = (socket) => frame(socket, { type: 'exit', exit_code: 137, signal: 'SIGKILL', timed_out: true });
    expect(await collect(client.sandboxes.execStream('sb-1', 'x'))).toEqual([
      { type: 'exit', exit_code: 137, signal: 'SIGKILL', timed_out: true },
    ]);
  });

  it('gives standard input of any kind, no faster than it is taken', async () => {
    const total = 3_000_000;
    let taken = 0;
    let most = 0;
    onStart = (socket) => {
      // Taken one frame late: what is on its way is all that the client sends ahead.
      let unanswered = 0;
      socket.on('message', (data) => {
        const message = JSON.parse(String(data));
        if (message.type !== 'stdin') return;
        if (message.eof) {
          taken += unanswered;
          unanswered = 0;
          return frame(socket, { type: 'exit', exit_code: 0 });
        }
        unanswered += Buffer.from(message.data, 'base64').length;
        most = Math.max(most, unanswered);
        setImmediate(() => {
          taken += unanswered;
          unanswered = 0;
          frame(socket, { type: 'stdin', taken_bytes: taken, open: true });
        });
      });
    };
    const source = (async function* () {
      yield 'ä'.repeat(500_000);
      yield Buffer.alloc(total - 1_000_000);
    })();
    await collect(client.sandboxes.execStream('sb-1', { cmd: 'x', stdin: source }));
    expect(taken).toBe(total);
    expect(most).toBeLessThanOrEqual(512 * 1024);
    expect(received[0]).toEqual({ type: 'start', cmd: 'x', stdin: true, output_window: 256 });
  });

  it('sends no more to a command that takes no more, and rejects with what its source throws', async () => {
    let isLeft = false;
    const source = (async function* () {
      try {
        for (;;) yield Buffer.alloc(100_000);
      } finally {
        isLeft = true;
      }
    })();
    onStart = (socket) => {
      socket.once('message', () => {
        frame(socket, { type: 'stdin', taken_bytes: 100_000, open: false });
        frame(socket, { type: 'exit', exit_code: 0 });
      });
    };
    await collect(client.sandboxes.execStream('sb-1', { cmd: 'x', stdin: source }));
    await expect.poll(() => isLeft).toBe(true);
    onStart = () => undefined;
    const broken = (async function* () {
      yield 'a';
      throw new RangeError('no more');
    })();
    await expect(collect(client.sandboxes.execStream('sb-1', { cmd: 'x', stdin: broken }))).rejects.toThrow(RangeError);
  });

  it('throws what the server says', async () => {
    onStart = (socket) => frame(socket, { type: 'error', code: 'deadline_exceeded', message: 'it took too long' });
    await expect(collect(client.sandboxes.execStream('sb-1', 'x'))).rejects.toMatchObject({
      code: 'deadline_exceeded',
      message: 'it took too long',
    });
  });

  it('throws when the connection ends before the command', async () => {
    onStart = (socket) => socket.close(1011, 'going away');
    await expect(collect(client.sandboxes.execStream('sb-1', 'x'))).rejects.toMatchObject({
      code: 'unreachable',
      message: expect.stringContaining('1011 going away'),
    });
  });

  it('gives up a connection that went silent', async () => {
    answersPings = false;
    onStart = (socket) => frame(socket, { type: 'start', pid: 7 });
    await expect(collect(client.sandboxes.execStream('sb-1', 'x', { pingIntervalMs: 10 }))).rejects.toMatchObject({
      code: 'unreachable',
      message: expect.stringContaining('silent'),
    });
  });

  it('reports a refused upgrade as the API error it carries', async () => {
    await expect(collect(client.sandboxes.execStream('sb-none', 'x'))).rejects.toMatchObject({
      code: 'not_found',
      status: 404,
      requestId: 'req-9',
    });
  });
});
