import { AppError } from '@aviary/core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTestPlatform, type TestPlatform } from '../test-platform.ts';

let platform: TestPlatform;
beforeAll(async () => {
  platform = await startTestPlatform();
});
afterAll(() => platform[Symbol.asyncDispose]());

const wait = { headers: { prefer: 'wait=20' } };
const createRunning = async () => (await platform.call('POST', '/v1/sandboxes', { body: {}, ...wait })).body;

test('a create is accepted at once and answered as running to those who wait', async () => {
  const accepted = await platform.call('POST', '/v1/sandboxes', { body: { metadata: { name: 'a' }, vcpus: 2 } });
  expect(accepted.status).toBe(202);
  expect(accepted.body).toMatchObject({
    status: 'starting',
    template: 'minimal',
    vcpus: 2,
    memory_mb: 512,
    metadata: { name: 'a' },
  });
  expect(accepted.headers.get('location')).toBe(`/v1/sandboxes/${accepted.body.id}`);
  const created = await platform.call('POST', '/v1/sandboxes', wait);
  expect(created.status).toBe(201);
  expect(created.body).toMatchObject({ status: 'running', start_path: 'cold_boot', host_id: platform.host.id });
  expect(platform.agent.sandboxes.get(created.body.id.slice(3))).toBeDefined();
});

test('a delete frees the sandbox, and deleting again says so', async () => {
  const { id } = await createRunning();
  const deleted = await platform.call('DELETE', `/v1/sandboxes/${id}`, wait);
  expect([deleted.status, deleted.body.status]).toEqual([200, 'stopped']);
  expect(platform.agent.sandboxes.get(id.slice(3))).toBeUndefined();
  expect((await platform.call('DELETE', `/v1/sandboxes/${id}`, wait)).body.status).toBe('stopped');
});

test('pause and resume go through the host and keep the generation', async () => {
  const { id } = await createRunning();
  const paused = await platform.call('POST', `/v1/sandboxes/${id}/pause`, wait);
  expect([paused.status, paused.body.status]).toEqual([200, 'paused']);
  expect(paused.body.generation_id).toMatch(/^gen-/);
  const refused = await platform.call('POST', `/v1/sandboxes/${id}/exec`, { body: { cmd: 'true' } });
  expect([refused.status, refused.body.error.code, refused.body.error.details.status]).toEqual([
    409,
    'invalid_state',
    'paused',
  ]);
  expect(refused.body.error.message).toBe('cannot run a command in the sandbox: it is paused; resume it first');
  expect(refused.body.error.details.allowed).toContain('resume');
  const resumed = await platform.call('POST', `/v1/sandboxes/${id}/resume`, wait);
  expect([resumed.status, resumed.body.status, resumed.body.start_path]).toEqual([200, 'running', 'resume']);
});

test('a guest that does not answer is stopped by force, and the sandbox says so', async () => {
  const { id } = await createRunning();
  platform.agent.sandboxes.hung.add(id.slice(3));
  const refused = await platform.call('POST', `/v1/sandboxes/${id}/pause`, wait);
  expect([refused.status, refused.body.error.code]).toEqual([502, 'guest_unavailable']);
  const forced = await platform.call('POST', `/v1/sandboxes/${id}/pause`, { ...wait, body: { force: true } });
  expect([forced.status, forced.body.status, forced.body.status_reason]).toEqual([200, 'paused', 'stopped hard']);
  const { body } = await platform.call('GET', `/v1/sandboxes/${id}/generations`);
  expect(body.items).toEqual([expect.objectContaining({ has_memory: false })]);
});

test('exec answers text as text and other bytes in base64', async () => {
  const { id } = await createRunning();
  const text = await platform.call('POST', `/v1/sandboxes/${id}/exec`, { body: { cmd: 'echo hi' } });
  expect(text.body).toMatchObject({
    sandbox_id: id,
    stdout: 'echo hi\n',
    exit_code: 0,
    encoding: 'utf-8',
    truncated: false,
  });
  const answer = platform.agent.sandboxes.exec;
  platform.agent.sandboxes.exec = () => ({ stdout: Uint8Array.of(0xff, 0x00), exitCode: 3 });
  const binary = await platform.call('POST', `/v1/sandboxes/${id}/exec`, { body: { cmd: 'cat', args: ['/dev/x'] } });
  platform.agent.sandboxes.exec = answer;
  expect(binary.body).toMatchObject({
    stdout: Buffer.of(0xff, 0).toString('base64'),
    encoding: 'base64',
    exit_code: 3,
  });
});

test('files go up and come down unchanged', async () => {
  const { id } = await createRunning();
  const content = Buffer.from(Array.from({ length: 300_000 }, (_, index) => index % 251));
  const form = new FormData();
  form.append('path', '/tmp/data.bin');
  form.append('file', new Blob([content]), 'data.bin');
  expect((await platform.call('POST', `/v1/sandboxes/${id}/files/write`, { body: form })).status).toBe(204);
  const response = await fetch(`${platform.controlPlane.url}/v1/sandboxes/${id}/files/read`, {
    method: 'POST',
    headers: { 'x-api-key': platform.apiKey, 'content-type': 'application/json' },
    body: JSON.stringify({ path: '/tmp/data.bin' }),
  });
  expect(Buffer.from(await response.arrayBuffer()).equals(content)).toBe(true);
  const listed = await platform.call('POST', `/v1/sandboxes/${id}/files/list`, { body: { path: '/tmp' } });
  expect(listed.body.entries).toMatchObject([{ path: '/tmp/data.bin', size: 300_000, type: 'file' }]);
  expect(
    (await platform.call('POST', `/v1/sandboxes/${id}/files/mkdir`, { body: { path: '/tmp/d' } })).body.entry.type,
  ).toBe('directory');
  expect(
    (await platform.call('POST', `/v1/sandboxes/${id}/files/remove`, { body: { path: '/tmp/data.bin' } })).status,
  ).toBe(204);
  const gone = await platform.call('POST', `/v1/sandboxes/${id}/files/read`, { body: { path: '/tmp/data.bin' } });
  expect([gone.status, gone.body.error.code]).toEqual([404, 'not_found']);
});

test('lists page through all, newest first, and refuse cursors that are not theirs', async () => {
  const key = await platform.createTeam();
  const ids: string[] = [];
  for (let index = 0; index < 5; index++) ids.unshift((await platform.call('POST', '/v1/sandboxes', { key })).body.id);
  const seen: string[] = [];
  let cursor = '';
  do {
    const page = await platform.call('GET', `/v1/sandboxes?limit=2${cursor && `&cursor=${cursor}`}`, { key });
    seen.push(...page.body.items.map((item: { id: string }) => item.id));
    cursor = page.body.next_cursor ?? '';
  } while (cursor);
  expect(seen).toEqual(ids);
  const refused = await platform.call('GET', '/v1/sandboxes?cursor=WyJhIl0');
  expect([refused.status, refused.body.error.details.field]).toEqual([400, 'cursor']);
});

test('a failed start is answered with the reason, and the sandbox keeps it', async () => {
  platform.agent.failNext('createSandbox', new AppError('disk_full', 'the host has no space for the disk'));
  const failed = await platform.call('POST', '/v1/sandboxes', wait);
  expect([failed.status, failed.body.error.code]).toEqual([507, 'disk_full']);
  const kept = await platform.call('GET', `/v1/sandboxes/${failed.body.error.details.sandbox_id}`);
  expect(kept.body).toMatchObject({ status: 'error', status_reason: 'the host has no space for the disk' });
});
