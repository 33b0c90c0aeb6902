import { connect } from 'node:net';
import { AppError, fileLimits } from '@aviary/core';
import { waitFor } from '@aviary/service-kit';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTestPlatform, type TestPlatform } from '../test-platform.ts';

let platform: TestPlatform;
let files: string;
beforeAll(async () => {
  platform = await startTestPlatform();
  const { body } = await platform.call('POST', '/v1/sandboxes', { headers: { prefer: 'wait=20' }, body: {} });
  files = `/v1/sandboxes/${body.id}/files`;
});
afterAll(() => platform[Symbol.asyncDispose]());

const part = (name: string, value: string) =>
  `--x\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`;
const filePart = (content: string) =>
  `--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n${content}`;
const formType = 'multipart/form-data; boundary=x';

async function send(body: string | Uint8Array<ArrayBuffer>, contentType = formType) {
  const response = await fetch(`${platform.controlPlane.url}${files}/write`, {
    method: 'POST',
    headers: { 'x-api-key': platform.apiKey, 'content-type': contentType },
    body,
  });
  const text = await response.text();
  return { status: response.status, error: text === '' ? undefined : JSON.parse(text).error };
}

async function read(path: string): Promise<string> {
  const response = await fetch(`${platform.controlPlane.url}${files}/read`, {
    method: 'POST',
    headers: { 'x-api-key': platform.apiKey, 'content-type': 'application/json' },
    body: JSON.stringify({ path }),
  });
  return await response.text();
}

const whole = (path: string, content: string) => `${part('path', path)}${filePart(content)}\r\n--x--\r\n`;

test.each([
  ['no boundary in its type', 'xx', 'multipart/form-data'],
  ['garbage behind the boundary', '--x garbage', formType],
  ['no boundary at all', 'xx', formType],
  ['nothing', '', formType],
  ['no last boundary', `${part('path', '/tmp/kept')}${filePart('PART\r\n--x\r\n')}`, formType],
  ['its file cut off', `${part('path', '/tmp/kept')}${filePart('PART')}`, formType],
  [
    'a field behind its file',
    `${part('path', '/tmp/kept')}${filePart('PART\r\n')}${part('user', 'root')}--x--\r\n`,
    formType,
  ],
  ['two files', `${part('path', '/tmp/kept')}${filePart('PART\r\n')}${filePart('MORE\r\n')}--x--\r\n`, formType],
  ['no path', `${filePart('PART\r\n')}--x--\r\n`, formType],
  ['no file', `${part('path', '/tmp/kept')}--x--\r\n`, formType],
  ['a part that nobody knows', `${part('mode', '1')}${filePart('PART\r\n')}--x--\r\n`, formType],
])('an upload whose form has %s is a bad request and leaves the file', async (_what, body, contentType) => {
  expect(await send(whole('/tmp/kept', 'kept'))).toEqual({ status: 204, error: undefined });
  const { status, error } = await send(body, contentType);
  expect([status, error.code, error.message], JSON.stringify(error)).toEqual([
    400,
    'invalid_request',
    expect.stringMatching(/form is malformed|missing|no part/),
  ]);
  expect(await read('/tmp/kept')).toBe('kept');
});

test('an upload that the host refuses says why and leaves the file', async () => {
  expect((await send(whole('/tmp/kept', 'kept'))).status).toBe(204);
  platform.agent.failNext('writeFile', new AppError('disk_full', 'the disk is full'));
  const full = await send(whole('/tmp/kept', 'other'));
  expect([full.status, full.error.code]).toEqual([507, 'disk_full']);
  expect(await read('/tmp/kept')).toBe('kept');
});

test('an upload whose client leaves is none', async () => {
  expect((await send(whole('/tmp/kept', 'kept'))).status).toBe(204);
  const ends: string[] = [];
  const { writeFile } = platform.agent.sandboxes.observe;
  platform.agent.sandboxes.observe.writeFile = (end) => ends.push(end);
  const { hostname, port } = new URL(platform.controlPlane.url);
  const socket = connect(Number(port), hostname);
  const body = `${part('path', '/tmp/kept')}${filePart('PART')}`;
  const head = [
    `POST ${files}/write HTTP/1.1`,
    'host: api',
    `x-api-key: ${platform.apiKey}`,
    `content-type: ${formType}`,
    'content-length: 1000000',
  ].join('\r\n');
  socket.write(`${head}\r\n\r\n${body}${'x'.repeat(100_000)}`);
  await waitFor({ what: 'the upload at the host', timeoutMs: 5_000 }, () => ends.includes('begun'));
  socket.destroy();
  await waitFor({ what: 'its end', timeoutMs: 5_000 }, () => ends.includes('broken'));
  expect(ends).not.toContain('whole');
  platform.agent.sandboxes.observe.writeFile = writeFile;
  expect(await read('/tmp/kept')).toBe('kept');
});

test('a directory is listed in pages', async () => {
  for (const name of ['a', 'b', 'c']) await send(whole(`/tmp/pages/${name}`, name));
  const list = (body: object) => platform.call('POST', `${files}/list`, { body: { path: '/tmp/pages', ...body } });
  const first = (await list({ limit: 2 })).body;
  expect(first.entries.map(({ name }: { name: string }) => name)).toEqual(['a', 'b']);
  const second = (await list({ limit: 2, cursor: first.next_cursor })).body;
  expect([second.entries.map(({ name }: { name: string }) => name), second.next_cursor]).toEqual([['c'], null]);
  expect((await list({})).body).toMatchObject({ entries: [{}, {}, {}], next_cursor: null });
  expect((await list({ limit: fileLimits.maxListEntries + 1 })).status).toBe(400);
});
