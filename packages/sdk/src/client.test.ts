import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { AviaryClient, AviaryError } from './index.ts';

interface Seen {
  method: string;
  url: string;
  headers: IncomingMessage['headers'];
  body: string;
}

type Answer = (seen: Seen, response: ServerResponse) => void;

let server: Server;
let seen: Seen[];
let answers: Answer[];
let delays: number[];
let client: AviaryClient;

const json =
  (status: number, body: unknown, headers: Record<string, string> = {}): Answer =>
  (_seen, response) =>
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
const failure = (status: number, code: string, headers: Record<string, string> = {}) =>
  json(status, { error: { code, message: `it is ${code}`, request_id: 'req-1', details: { field: 'x' } } }, headers);

beforeEach(async () => {
  seen = [];
  answers = [];
  delays = [];
  server = createServer((request, response) => {
    const pieces: Buffer[] = [];
    request.on('data', (piece: Buffer) => pieces.push(piece));
    request.on('end', () => {
      const { method = '', url = '', headers } = request;
      const one = { method, url, headers, body: Buffer.concat(pieces).toString() };
      seen.push(one);
      answers.shift()?.(one, response);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  client = new AviaryClient({
    apiUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    apiKey: 'avy_test',
    sleep: async (ms) => {
      delays.push(ms);
    },
  });
});

afterEach(() => {
  server.closeAllConnections();
  server.close();
});

async function errorOf(work: Promise<unknown>): Promise<AviaryError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof AviaryError)) throw new Error(`not an AviaryError: ${String(error)}`);
  return error;
}

describe('calls that may take longer than the platform waits', () => {
  /** Where Node's own fetch keeps what it was given. */
  const dispatcher = Symbol.for('undici.globalDispatcher.1');
  const globals = globalThis as unknown as Record<symbol, { constructor: new (options: object) => object }>;

  it('are waited for as long as the call says', async () => {
    await fetch(client.apiUrl, { signal: AbortSignal.timeout(1) }).catch(() => undefined);
    const usual = globals[dispatcher];
    if (!usual) throw new Error("Node's fetch has no dispatcher");
    const { constructor: Agent } = usual;
    Object.assign(globals, { [dispatcher]: new Agent({ headersTimeout: 1 }) });
    try {
      const pending: ServerResponse[] = [];
      answers = Array.from({ length: 3 }, () => (_seen: Seen, response: ServerResponse) => void pending.push(response));
      const long = client.sandboxes.exec('sb-1', { cmd: 'make', stdin: Buffer.of(255), timeout_sec: 600 });
      const short = client.sandboxes.get('sb-1');
      // The platform's patience ends, and ours does not.
      expect(await errorOf(short)).toMatchObject({ code: 'unreachable' });
      expect(seen.find(({ method }) => method === 'POST')?.body).toBe(
        '{"cmd":"make","timeout_sec":600,"stdin":"/w==","stdin_encoding":"base64"}',
      );
      for (const response of pending) response.setHeader('content-type', 'application/json').end('{"exit_code":0}');
      expect(await long).toEqual({ exit_code: 0 });
      answers = [failure(409, 'invalid_state')];
      expect(await errorOf(client.sandboxes.exec('sb-1', { cmd: 'x', timeout_sec: 0 }))).toMatchObject({
        ...{ code: 'invalid_state', status: 409, requestId: 'req-1' },
      });
    } finally {
      Object.assign(globals, { [dispatcher]: usual });
    }
  });
});

describe('requests', () => {
  it('authenticates, keys every POST and asks the server to wait', async () => {
    answers = [json(201, { id: 'sb-1', status: 'running' })];
    const sandbox = await client.sandboxes.create({ memory_mb: 512 }, { waitSec: 20 });
    expect(sandbox).toEqual({ id: 'sb-1', status: 'running' });
    expect(seen[0]).toMatchObject({ method: 'POST', url: '/v1/sandboxes', body: '{"memory_mb":512}' });
    expect(seen[0]?.headers).toMatchObject({ 'x-api-key': 'avy_test', prefer: 'wait=20' });
    expect(seen[0]?.headers['idempotency-key']).toMatch(/^[0-9a-f-]{36}$/);
  });

  it('retries a refused POST with the same key after the time the server named', async () => {
    answers = [
      failure(503, 'no_capacity', { 'retry-after': '3' }),
      failure(429, 'rate_limited', { 'retry-after': '1' }),
      json(202, { id: 'sb-1' }),
    ];
    await client.sandboxes.create();
    expect(delays).toEqual([3_000, 1_000]);
    expect(new Set(seen.map(({ headers }) => headers['idempotency-key'])).size).toBe(1);
    expect(seen).toHaveLength(3);
  });

  it('gives up after the allowed retries with the last error', async () => {
    answers = Array.from({ length: 5 }, () => failure(429, 'rate_limited', { 'retry-after': '0' }));
    const error = await errorOf(client.sandboxes.get('sb-1'));
    expect(error).toMatchObject({ code: 'rate_limited', status: 429, requestId: 'req-1', details: { field: 'x' } });
    expect(seen).toHaveLength(4);
  });

  it('does not repeat a failure that may have done something', async () => {
    answers = [failure(500, 'internal', { 'retry-after': '0' })];
    expect(await errorOf(client.sandboxes.exec('sb-1', 'true'))).toMatchObject({ code: 'internal' });
    expect(seen).toHaveLength(1);
  });

  it('ends at its deadline, while an answer is late or trickles', async () => {
    answers = [() => undefined];
    const late = await errorOf(client.sandboxes.get('sb-1', { timeoutMs: 50 }));
    expect(late).toMatchObject({ code: 'timeout', status: 0 });
    answers = [(_seen, response) => response.writeHead(200).write('{')];
    expect(await errorOf(client.sandboxes.get('sb-1', { timeoutMs: 50 }))).toMatchObject({ code: 'timeout' });
  });

  it('rejects with the reason of the caller who aborts', async () => {
    answers = [() => undefined];
    const controller = new AbortController();
    const call = client.sandboxes.get('sb-1', { signal: controller.signal });
    controller.abort(new Error('changed my mind'));
    await expect(call).rejects.toThrow('changed my mind');
  });

  it('tells an absent server from one that is not Aviary', async () => {
    answers = [(_seen, response) => response.writeHead(502).end('<html>bad gateway</html>')];
    expect(await errorOf(client.sandboxes.get('sb-1'))).toMatchObject({ code: 'bad_response', status: 502 });
    await new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    });
    const error = await errorOf(client.sandboxes.get('sb-1'));
    expect(error.code).toBe('unreachable');
    expect(error.message).toContain('ECONNREFUSED');
  });

  it('keeps a code that it does not know', async () => {
    answers = [failure(409, 'from_the_future')];
    const error = await errorOf(client.sandboxes.get('sb-1'));
    expect(error).toMatchObject({ code: 'unknown', details: { code: 'from_the_future' } });
  });

  it('escapes ids, so that one cannot reach another route', async () => {
    answers = [json(200, {})];
    await client.sandboxes.get('../keys?x=1');
    expect(seen[0]?.url).toBe('/v1/sandboxes/..%2Fkeys%3Fx%3D1');
  });

  it('takes URL and key from the environment when it is given none', async () => {
    vi.stubEnv('AVIARY_API_URL', client.apiUrl);
    vi.stubEnv('AVIARY_API_KEY', 'avy_environment');
    answers = [json(200, {}), json(200, {})];
    await new AviaryClient().sandboxes.get('sb-1');
    await new AviaryClient({ apiKey: 'avy_given' }).sandboxes.get('sb-1');
    vi.unstubAllEnvs();
    expect(seen.map(({ headers }) => headers['x-api-key'])).toEqual(['avy_environment', 'avy_given']);
    expect(new AviaryClient().apiUrl).toBe('http://127.0.0.1:7070');
  });

  it('takes a URL that ends with the version of the API', () => {
    for (const end of ['', '/', '/v1', '/v1/', '//v1//'])
      expect(new AviaryClient({ apiUrl: `https://aviary.example/behind${end}` }).apiUrl).toBe(
        'https://aviary.example/behind',
      );
    expect(new AviaryClient({ apiUrl: 'https://aviary.example/v10' }).apiUrl).toBe('https://aviary.example/v10');
  });

  it('refuses a URL that is none', () => {
    expect(() => new AviaryClient({ apiUrl: 'localhost:7070' })).toThrow(/must start with http/);
  });
});

describe('list', () => {
  it('walks the pages as far as they are wanted', async () => {
    answers = [
      json(200, { items: [{ id: 'a' }, { id: 'b' }], next_cursor: 'c1' }),
      json(200, { items: [{ id: 'c' }], next_cursor: null }),
    ];
    const ids: string[] = [];
    for await (const { id } of client.sandboxes.list({ status: ['running', 'paused'], pageSize: 2 })) ids.push(id);
    expect(ids).toEqual(['a', 'b', 'c']);
    expect(seen.map(({ url }) => url)).toEqual([
      '/v1/sandboxes?limit=2&status=running%2Cpaused',
      '/v1/sandboxes?limit=2&status=running%2Cpaused&cursor=c1',
    ]);
    answers = [json(200, { items: [{ id: 'a' }], next_cursor: 'c1' })];
    for await (const _one of client.sandboxes.list()) break;
    expect(seen).toHaveLength(3);
  });
});

describe('files', () => {
  it('sends a file as multipart, again whole when retried', async () => {
    answers = [failure(503, 'guest_unavailable', { 'retry-after': '0' }), json(204, undefined)];
    await client.files.write('sb-1', { path: '/tmp/a.txt', data: 'hello' }, { user: 'root' });
    for (const { headers, body } of seen) {
      expect(headers['content-type']).toMatch(/^multipart\/form-data; boundary=/);
      expect(body).toContain('name="path"\r\n\r\n/tmp/a.txt');
      expect(body).toContain('name="user"\r\n\r\nroot');
      expect(body).toContain('filename="a.txt"');
      expect(body).toContain('\r\n\r\nhello\r\n');
    }
    expect(seen).toHaveLength(2);
  });

  it('reads bytes unchanged', async () => {
    const data = Buffer.from([0, 255, 128, 10, 13]);
    answers = [(_seen, response) => response.writeHead(200, { 'content-type': 'application/octet-stream' }).end(data)];
    expect(Buffer.from(await client.files.read('sb-1', '/tmp/a'))).toEqual(data);
    expect(seen[0]).toMatchObject({ url: '/v1/sandboxes/sb-1/files/read', body: '{"path":"/tmp/a"}' });
  });

  it('lists page after page, as it is taken', async () => {
    const page = (names: string[], next_cursor: string | null) =>
      json(200, { entries: names.map((name) => ({ name })), next_cursor });
    answers = [page(['a', 'b'], 'after-b'), page(['c'], null), page(['a', 'b'], 'after-b')];
    expect((await client.files.list('sb-1', '/d', { depth: 2, pageSize: 2 })).map(({ name }) => name)).toEqual([
      'a',
      'b',
      'c',
    ]);
    expect(seen.map(({ body }) => JSON.parse(body))).toEqual([
      { path: '/d', depth: 2, limit: 2 },
      { path: '/d', depth: 2, limit: 2, cursor: 'after-b' },
    ]);
    for await (const { name } of client.files.entries('sb-1', '/d')) if (name === 'b') break;
    expect(seen).toHaveLength(3);
  });
});

describe('logging in', () => {
  it('goes on with the challenge of a second factor', async () => {
    const asked = { challenge: 'avyc_1', challenge_expires_at: '2030-01-01T00:00:00Z', methods: ['totp'] };
    answers.push(json(202, asked), json(200, { access_token: 'a' }));
    const answer = await client.accounts.logIn({ email: 'ada@example.com', password: 'secret' });
    if (!('challenge' in answer)) throw new Error('no challenge');
    expect(await client.accounts.completeLogIn({ challenge: answer.challenge, code: '123456' })).toMatchObject({
      access_token: 'a',
    });
    expect(JSON.parse(String(seen[1]?.body))).toEqual({
      challenge: 'avyc_1',
      code: '123456',
      refresh_token_in: 'body',
    });
  });

  it('shows no key, which may be of another server', async () => {
    answers.push(json(200, { access_token: 'a' }), json(200, { access_token: 'b' }), json(200, {}));
    await client.accounts.logIn({ email: 'ada@example.com', password: 'secret' });
    await client.accounts.refresh('r');
    await client.accounts.me();
    expect(seen.map(({ headers }) => headers['x-api-key'])).toEqual([undefined, undefined, 'avy_test']);
  });
});
