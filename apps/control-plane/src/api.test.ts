import { connect } from 'node:net';
import { type Route, routes } from '@aviary/api-contract';
import { newId, platformTeamId, uuidv7 } from '@aviary/core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { parse } from 'yaml';
import { startTestPlatform, type TestPlatform } from './test-platform.ts';

let platform: TestPlatform;
let sandboxId: string;
let foreignId: string;
beforeAll(async () => {
  platform = await startTestPlatform();
  const wait = { headers: { prefer: 'wait=20' } };
  sandboxId = (await platform.call('POST', '/v1/sandboxes', wait)).body.id;
  foreignId = (await platform.call('POST', '/v1/sandboxes', { ...wait, key: await platform.createTeam() })).body.id;
});
afterAll(() => platform[Symbol.asyncDispose]());

const withId = (path: string, id: string) => path.replace('{id}', id).replace('{generation}', `gen-${uuidv7()}`);
describe('another team', () => {
  test('a foreign sandbox cannot be made a snapshot, nor does it show in lists', async () => {
    const refused = await platform.call('POST', '/v1/snapshots', { body: { sandbox_id: foreignId, name: 'steal' } });
    expect(refused.status).toBe(404);
    const ids = (await platform.call('GET', '/v1/sandboxes')).body.items.map((item: { id: string }) => item.id);
    expect(ids).not.toContain(foreignId);
  });
});

describe('errors', () => {
  const expectError = (
    reply: { status: number; headers: Headers; body: { error: Record<string, unknown> } },
    status: number,
    code: string,
  ) => {
    expect([reply.status, reply.body.error['code']]).toEqual([status, code]);
    expect(reply.body.error['request_id']).toBe(reply.headers.get('x-request-id'));
    expect(Object.keys(reply.body.error)).toEqual(['code', 'message', 'request_id', 'details']);
  };

  test('have one shape on unknown routes, methods and types', async () => {
    expectError(await platform.call('GET', '/v1/nothing'), 404, 'not_found');
    const wrongMethod = await platform.call('PUT', '/v1/sandboxes');
    expectError(wrongMethod, 405, 'method_not_allowed');
    expect(wrongMethod.headers.get('allow')).toBe('POST, GET, HEAD');
    for (const type of ['text/xml', 'text/plain', 'multipart/form-data; boundary=x']) {
      const headers = { 'content-type': type };
      const typed = await platform.call('POST', '/v1/sandboxes', { body: '{}', headers });
      expectError(typed, 415, 'unsupported_media_type');
    }
    for (const method of ['QUERY', 'PROPFIND', 'OPTIONS', 'PATCH']) {
      const refused = await platform.call(method, '/v1/snapshots');
      expectError(refused, 405, 'method_not_allowed');
      expect(refused.headers.get('allow')).toBe('POST, GET, HEAD');
    }
    expectError(await platform.call('POST', '/v1/sandboxes', { body: '{"a":' }), 400, 'invalid_request');
    expectError(await platform.call('GET', '/v1/sandboxes/%zz'), 400, 'invalid_request');
    const deep = await platform.call('POST', '/v1/sandboxes', {
      body: `{"metadata":${'['.repeat(1e5)}${']'.repeat(1e5)}}`,
    });
    expectError(deep, 400, 'invalid_request');
    expect(deep.body.error.message).toContain('nests deeper');
    const huge = JSON.stringify({ metadata: { a: 'x'.repeat(17 * 1024 * 1024) } });
    expectError(await platform.call('POST', '/v1/sandboxes', { body: huge }), 413, 'payload_too_large');
    const anonymous = JSON.stringify({ token: 'x'.repeat(100_000) });
    expectError(await platform.call('POST', '/v1/hosts/register', { body: anonymous }), 413, 'payload_too_large');
  });

  test.each([
    ['vcpus', { vcpus: 0 }],
    ['vcpus', { vcpus: '1' }],
    ['memory_mb', { memory_mb: 1.5 }],
    ['disk_size_mb', { disk_size_mb: 2 ** 53 }],
    ['timeout_sec', { timeout_sec: -1 }],
    ['template', { template: '../etc' }],
    ['template', { template: '💥'.repeat(20_000) }],
    ['metadata', { metadata: { a: 'x'.repeat(16_000), b: 'x'.repeat(1_000) } }],
    ['metadata.a', { metadata: { a: 'nul\0' } }],
    ['envs', { envs: Object.fromEntries(Array.from({ length: 300 }, (_, index) => [`V${index}`, ''])) }],
    ['envs', { envs: { 'A=B': '' } }],
    ['surprise', { surprise: 1 }],
    ['body', []],
  ])('names %s', async (field, body) => {
    const reply = await platform.call('POST', '/v1/sandboxes', { body });
    expectError(reply, 400, 'invalid_request');
    expect(String(reply.body.error.details.field).split('.')[0]).toBe(field.split('.')[0]);
  });

  test.each(['cursor=%00', 'cursor=e30', 'limit=0', 'limit=x', 'limit=1e9', 'status=flying'])(
    'refuses ?%s',
    async (query) => {
      const reply = await platform.call('GET', `/v1/sandboxes?${query}`);
      expectError(reply, 400, 'invalid_request');
      expect(reply.body.error.details.field).toBe(query.split('=')[0]);
    },
  );

  test('say what an id looks like, and what a name is', async () => {
    const message = async (path: string, body?: object) =>
      (await platform.call(body ? 'POST' : 'GET', path, body ? { body } : {})).body.error.message;
    expect(await message('/v1/sandboxes/web')).toMatch(/^not a sandbox id: "web"; they look like sb-/);
    expect(await message(`/v1/sandboxes/sb-${'-'.repeat(36)}`)).toMatch(/^not a sandbox id: "sb-/);
    expect(await message('/v1/snapshots', { sandbox_id: sandboxId, name: '../x' })).toMatch(/^name must be 1 to 64 of/);
    expect(await message('/v1/sandboxes', { memory_mb: 1 })).toBe('memory_mb must be at least 256');
    expect(await message('/v1/sandboxes?status=flying')).toMatch(/^status must be of pending, starting, /);
  });

  test.each([
    ['disk_size_mb', { disk_size_mb: 1_024 }, 'disk_size_mb must be at least 5120'],
    [
      'disk_size_mb',
      { template: 'large', disk_size_mb: 6_000 },
      'disk_size_mb must be at least 8192, the disk of the te',
    ],
    ['memory_mb', { memory_mb: 65_536 }, 'it needs 65536 MiB of memory (the most is 900)'],
  ])('a size that cannot be is refused by %s, and leaves no sandbox behind', async (field, body, sentence) => {
    const { db } = platform.database;
    const large = { name: 'large', kind: 'base', status: 'ready', vcpus: 1, memory_mib: 512, disk_mib: 8_192 } as const;
    await db
      .insertInto('templates')
      .values({ id: newId('template'), team_id: platformTeamId, ...large })
      .execute();
    await db.updateTable('hosts').set({ memory_mib: 1_000 }).execute();
    const count = async () => (await platform.call('GET', '/v1/sandboxes')).body.items.length;
    const before = await count();
    const reply = await platform.call('POST', '/v1/sandboxes', { body });
    expectError(reply, 400, 'invalid_request');
    expect(reply.body.error.details.field).toBe(field);
    expect(reply.body.error.message).toContain(sentence);
    expect(await count()).toBe(before);
    await db.updateTable('hosts').set({ memory_mib: 1_000_000 }).execute();
    await db.deleteFrom('templates').where('name', '=', 'large').execute();
  });

  test('what has no place now says when to ask again', async () => {
    const { db } = platform.database;
    await db.updateTable('hosts').set({ status: 'unreachable' }).execute();
    const reply = await platform.call('POST', '/v1/sandboxes');
    await db.updateTable('hosts').set({ status: 'online' }).execute();
    expectError(reply, 503, 'no_capacity');
    expect(reply.headers.get('retry-after')).toBe('2');
  });

  test('bytes that are not HTTP, and too many headers, are answered and hung up on', async () => {
    const { hostname, port } = new URL(platform.controlPlane.url);
    const send = (bytes: string) =>
      new Promise<string>((resolve, reject) => {
        const socket = connect(Number(port), hostname, () => socket.write(bytes));
        let text = '';
        socket
          .on('data', (chunk) => (text += chunk))
          .on('end', () => resolve(text))
          .on('error', reject);
      });
    expect(await send('nonsense\r\n\r\n')).toMatch(/^HTTP\/1\.1 400 [\s\S]*"code":"invalid_request"/);
    expect(await send(`GET / HTTP/1.1\r\nhost: a\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`)).toMatch(/^HTTP\/1\.1 431 /);
    const smuggle =
      'POST /v1/sandboxes HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n';
    expect(await send(smuggle)).toMatch(/^HTTP\/1\.1 400 /);
  });
});

describe('idempotency keys', () => {
  test('two hundred creates with one key make one sandbox', async () => {
    const before = platform.agent.sandboxes.list().length;
    const create = () =>
      platform.call('POST', '/v1/sandboxes', {
        body: { vcpus: 1 },
        headers: { 'idempotency-key': 'storm', prefer: 'wait=20' },
      });
    const replies = await Promise.all(Array.from({ length: 200 }, create));
    expect(new Set(replies.map((reply) => reply.status))).toEqual(new Set([201]));
    expect(new Set(replies.map((reply) => reply.body.id)).size).toBe(1);
    expect(platform.agent.sandboxes.list().length).toBe(before + 1);
    const other = await platform.call('POST', '/v1/sandboxes', {
      body: { vcpus: 2 },
      headers: { 'idempotency-key': 'storm' },
    });
    expect([other.status, other.body.error.code]).toEqual([422, 'idempotency_mismatch']);
  });

  test('a command is run once, and a failed request gives its key back', async () => {
    const exec = (headers: Record<string, string>) =>
      platform.call('POST', `/v1/sandboxes/${sandboxId}/exec`, { body: { cmd: 'date' }, headers });
    const before = platform.agent.sandboxes.work.length;
    const first = await exec({ 'idempotency-key': 'exec-1' });
    const second = await exec({ 'idempotency-key': 'exec-1' });
    expect(second.body).toEqual(first.body);
    expect(second.headers.get('idempotency-replayed')).toBe('true');
    expect(platform.agent.sandboxes.work.length).toBe(before + 1);
    const late = { body: { path: '/tmp/late' }, headers: { 'idempotency-key': 'mkdir-1' } };
    const files = `/v1/sandboxes/${sandboxId}/files`;
    await platform.call('POST', `${files}/mkdir`, { body: late.body });
    for (let attempt = 0; attempt < 2; attempt++) {
      const { status, body } = await platform.call('POST', `${files}/mkdir`, late);
      expect([status, body.error.code]).toEqual([409, 'already_exists']);
    }
    await platform.call('POST', `${files}/remove`, { body: late.body });
    expect((await platform.call('POST', `${files}/mkdir`, late)).status).toBe(200);
  });
});

describe('documents', () => {
  test('openapi.yaml and the docs are served from here', async () => {
    const document = parse((await platform.call('GET', '/openapi.yaml', { key: '' })).body);
    expect(document.openapi).toBe('3.1.0');
    for (const route of Object.values<Route>(routes).filter(({ isInternal = false }) => !isInternal))
      expect(document.paths[route.path]).toHaveProperty(route.method.toLowerCase());
    expect(document.paths).not.toHaveProperty('/v1/hosts/register');
    expect((await platform.call('GET', '/openapi.json', { key: '' })).body).toEqual(document);
    const docs = await platform.call('GET', '/docs', { key: '' });
    expect(docs.status).toBe(200);
    expect(docs.body).not.toMatch(/(src|href)="https?:/);
    expect(docs.body).toContain('<title>Aviary API</title>');
    const root = await fetch(`${platform.controlPlane.url}/`, { redirect: 'manual' });
    expect([root.status, root.headers.get('location')]).toEqual([302, '/docs']);
    expect((await platform.call('GET', '/health', { key: '' })).body).toMatchObject({ status: 'ok' });
  });

  test('every route of the contract is served', async () => {
    for (const route of Object.values<Route>(routes)) {
      const reply = await platform.call(route.method, withId(route.path, sandboxId), { key: '' });
      expect([404, 405]).not.toContain(reply.status);
    }
  });
});

describe('the exec stream', () => {
  const open = (key: string, id = sandboxId) =>
    new WebSocket(`${platform.controlPlane.url.replace('http', 'ws')}/v1/sandboxes/${id}/exec/stream`, {
      headers: { 'x-api-key': key },
    });
  const talk = (socket: WebSocket, first: string) =>
    new Promise<{ type: string; [key: string]: unknown }[]>((resolve, reject) => {
      const frames: { type: string }[] = [];
      socket.on('open', () => socket.send(first));
      socket.on('message', (data) => frames.push(JSON.parse(String(data))));
      socket.on('close', () => resolve(frames));
      socket.on('error', reject);
    });

  test('gives the pid, the output and the exit code', async () => {
    const frames = await talk(open(platform.apiKey), JSON.stringify({ type: 'start', cmd: 'echo hi' }));
    expect(frames).toEqual([
      { type: 'start', pid: 42 },
      { type: 'stdout', data: Buffer.from('echo hi\n').toString('base64') },
      { type: 'exit', exit_code: 0, signal: null, timed_out: false, stopped: false },
    ]);
  });

  test('refuses frames that it cannot read, and callers without a key or a sandbox', async () => {
    expect(await talk(open(platform.apiKey), '{"type":"start"}')).toMatchObject([
      { type: 'error', code: 'invalid_request', fatal: true },
    ]);
    await expect(talk(open('avy_no'), '{}')).rejects.toThrow('401');
    await expect(talk(open(platform.apiKey, foreignId), '{}')).rejects.toThrow('404');
  });
});
