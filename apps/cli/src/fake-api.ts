import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { type WebSocket, WebSocketServer } from 'ws';

export const fakeApiKey = 'avy_0000000000000000000000000000000000000000';

interface FakeSandbox {
  id: string;
  status: string;
  [field: string]: unknown;
}

type Script = (socket: WebSocket, start: Record<string, unknown>) => void;

interface FakeEntry {
  path: string;
  type: string;
  mode?: number;
  permissions?: string;
  symlink_target?: string;
}

/** The part of the API that the command line program uses, in memory: a stand-in at the process boundary, for its tests. */
export class FakeApi implements AsyncDisposable {
  readonly sandboxes = new Map<string, FakeSandbox>();
  readonly files = new Map<string, Buffer>();
  /** What listing a directory answers, at any depth. */
  readonly listings = new Map<string, FakeEntry[]>();
  readonly snapshots = new Map<
    string,
    { name: string; status: string; memory_mb: number; disk_size_mb: number; created_at: string }
  >();
  /** Why the next sandboxes are refused. */
  refuseCreate: { code: string; message: string } | undefined;
  readonly requests: { method: string; path: string; body: string }[] = [];
  /** Frames that clients sent on streams. */
  readonly frames: Record<string, unknown>[] = [];
  /** What a streamed command does. */
  script: Script = (socket) => send(socket, { type: 'exit', exit_code: 0 });
  /** Status that a new sandbox has, and its reason. */
  created: { status: string; status_reason: string | null } = { status: 'running', status_reason: null };
  readonly #server = createServer((request, response) => void this.#answer(request, response));
  readonly #sockets = new WebSocketServer({ noServer: true });
  #count = 0;

  static async start(): Promise<FakeApi> {
    const api = new FakeApi();
    api.#server.on('upgrade', (request, socket, head) => {
      api.#sockets.handleUpgrade(request, socket, head, (accepted) => {
        accepted.on('message', (data) => {
          const frame = JSON.parse(String(data)) as Record<string, unknown>;
          api.frames.push(frame);
          if (frame['type'] === 'start') api.script(accepted, frame);
        });
      });
    });
    await new Promise<void>((resolve) => api.#server.listen(0, '127.0.0.1', resolve));
    return api;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets.clients) socket.terminate();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  addSandbox(fields: Partial<FakeSandbox> = {}): FakeSandbox {
    const sandbox = {
      id: `sb-00000000-0000-7000-8000-${String(++this.#count).padStart(12, '0')}`,
      status: 'running',
      status_reason: null,
      template: 'minimal',
      vcpus: 1,
      memory_mb: 512,
      metadata: {},
      created_at: '2026-01-01T00:00:00.000Z',
      ...fields,
    };
    this.sandboxes.set(sandbox.id, sandbox);
    return sandbox;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', this.url);
    const data = await buffer(request);
    this.requests.push({
      method: request.method ?? '',
      path: `${url.pathname}${url.search}`,
      body: data.toString('latin1'),
    });
    const reply = (status: number, body?: unknown) =>
      response
        .writeHead(status, { 'content-type': 'application/json', 'x-request-id': 'req-7' })
        .end(body === undefined ? undefined : JSON.stringify(body));
    const refuse = (status: number, code: string, message: string) =>
      reply(status, { error: { code, message, request_id: 'req-7', details: {} } });
    if (url.pathname === '/health') return void reply(200, { status: 'ok', version: '0' });
    if (request.headers['x-api-key'] !== fakeApiKey) return void refuse(401, 'unauthorized', 'unknown API key');
    const [, , noun, id = '', ...verbs] = url.pathname.split('/');
    if (noun === 'snapshots') {
      if (request.method === 'GET') return void reply(200, { items: [...this.snapshots.values()], next_cursor: null });
      if (this.snapshots.delete(id)) return void reply(204);
      return void refuse(404, 'not_found', `there is no snapshot ${id}`);
    }
    if (noun !== 'sandboxes') return void refuse(404, 'not_found', 'no such route');
    if (id === '') {
      if (request.method === 'POST' && this.refuseCreate)
        return void refuse(400, this.refuseCreate.code, this.refuseCreate.message);
      if (request.method === 'POST') return void reply(202, this.addSandbox({ ...parse(data), ...this.created }));
      const wanted = url.searchParams.get('status')?.split(',') ?? [];
      const items = [...this.sandboxes.values()].filter(({ status }) => wanted.includes(status));
      return void reply(200, { items, next_cursor: null });
    }
    const sandbox = this.sandboxes.get(id);
    if (!sandbox) return void refuse(404, 'not_found', `there is no sandbox ${id}`);
    switch (`${request.method} ${verbs.join('/')}`) {
      case 'GET ':
        return void reply(200, sandbox);
      case 'DELETE ':
        sandbox.status = 'stopped';
        return void reply(202, sandbox);
      case 'POST pause':
        if (sandbox.status !== 'running') return void refuse(409, 'invalid_state', `it is ${sandbox.status}`);
        sandbox.status = 'paused';
        return void reply(200, sandbox);
      case 'POST fork': {
        const count = Number(parse(data)['count'] ?? 1);
        return void reply(201, { items: Array.from({ length: count }, () => this.addSandbox()) });
      }
      case 'POST files/write': {
        const form = await new Request('http://x', {
          method: 'POST',
          headers: headersOf(request),
          body: data,
        }).formData();
        const file = form.get('file');
        if (file instanceof Blob) this.files.set(String(form.get('path')), Buffer.from(await file.arrayBuffer()));
        return void reply(204);
      }
      case 'POST files/read': {
        const name = String(parse(data)['path']);
        const file = this.files.get(name);
        if (this.listings.has(name)) return void refuse(400, 'invalid_request', 'it is a directory');
        if (!file) return void refuse(404, 'not_found', 'no such file');
        return void response.writeHead(200, { 'content-type': 'application/octet-stream' }).end(file);
      }
      case 'POST files/list': {
        const { path } = parse(data);
        const entries = this.listings.get(String(path));
        if (this.files.has(String(path))) return void refuse(400, 'invalid_request', 'it is not a directory');
        if (!entries) return void refuse(404, 'not_found', 'no such directory');
        return void reply(200, { entries: entries.map(entryOf), next_cursor: null });
      }
      case 'POST files/mkdir': {
        const name = String(parse(data)['path']);
        if (this.listings.has(name)) return void refuse(409, 'already_exists', 'it is there');
        this.listings.set(name, []);
        return void reply(200, { entry: entryOf({ path: name, type: 'directory' }) });
      }
      case 'POST files/remove':
        this.files.delete(String(parse(data)['path']));
        return void reply(204);
      case 'POST exec':
        if (parse(data)['detach']) return void reply(202, { sandbox_id: id, cmd: parse(data)['cmd'], pid: 42 });
        return void reply(200, { stdout: '', stderr: '', exit_code: 0, truncated: false, duration_ms: 1 });
      default:
        return void refuse(404, 'not_found', 'no such route');
    }
  }
}

function entryOf(entry: FakeEntry) {
  return {
    name: entry.path.split('/').at(-1),
    size: 0,
    mode: 0o644,
    permissions: 'rw-r--r--',
    owner: 'user',
    group: 'user',
    modified_at: 0,
    symlink_target: null,
    ...entry,
  };
}

/** Sends a frame of the exec stream. */
export function send(socket: WebSocket, frame: Record<string, unknown>): void {
  socket.send(JSON.stringify(frame));
}

function headersOf({ headers }: IncomingMessage): Record<string, string> {
  return { 'content-type': headers['content-type'] ?? '' };
}

function parse(data: Buffer): Record<string, unknown> {
  return data.length === 0 ? {} : (JSON.parse(data.toString()) as Record<string, unknown>);
}
