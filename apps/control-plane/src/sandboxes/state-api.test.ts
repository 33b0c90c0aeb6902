import { AppError } from '@aviary/core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTestPlatform, type TestPlatform } from '../test-platform.ts';

let platform: TestPlatform;
beforeAll(async () => {
  platform = await startTestPlatform();
});
afterAll(() => platform[Symbol.asyncDispose]());

const wait = { headers: { prefer: 'wait=20' } };
const createRunning = async (body = {}) => (await platform.call('POST', '/v1/sandboxes', { body, ...wait })).body;

test('a ping counts as activity, and the idle time reaches host and row', async () => {
  const { id } = await createRunning();
  expect((await platform.call('POST', `/v1/sandboxes/${id}/ping`)).status).toBe(204);
  const changed = await platform.call('POST', `/v1/sandboxes/${id}/timeout`, { body: { timeout_sec: 90 } });
  expect(changed.body).toMatchObject({ timeout_sec: 90, last_activity: 'ping' });
  expect(platform.agent.sandboxes.get(id.slice(3))?.timeoutSec).toBe(90);
});

test('a fork starts copies of their own, and the source runs on', async () => {
  const { id } = await createRunning({ metadata: { job: 'x', name: 'web' } });
  const forked = await platform.call('POST', `/v1/sandboxes/${id}/fork`, { body: { count: 3 }, ...wait });
  expect(forked.status).toBe(201);
  const ids = forked.body.items.map((item: { id: string }) => item.id);
  expect(new Set([...ids, id]).size).toBe(4);
  for (const item of forked.body.items) expect(item).toMatchObject({ status: 'running', start_path: 'restore' });
  // Its name stays its own; other labels go along.
  for (const item of forked.body.items) expect(item.metadata).toEqual({ job: 'x' });
  expect((await platform.call('GET', `/v1/sandboxes/${id}`)).body.status).toBe('running');
});

test('generations can be named, pinned and gone back to', async () => {
  const { id } = await createRunning();
  await platform.call('POST', `/v1/sandboxes/${id}/pause`, wait);
  await platform.call('POST', `/v1/sandboxes/${id}/resume`, wait);
  await platform.call('POST', `/v1/sandboxes/${id}/pause`, wait);
  const listed = await platform.call('GET', `/v1/sandboxes/${id}/generations`);
  expect(listed.body.items).toHaveLength(2);
  const oldest = listed.body.items.find((item: { parent_id: string | null }) => item.parent_id === null);
  const named = await platform.call('PATCH', `/v1/sandboxes/${id}/generations/${oldest.id}`, {
    body: { name: 'clean', pinned: true },
  });
  expect(named.body).toMatchObject({ id: oldest.id, name: 'clean', pinned: true });
  const newest = listed.body.items.find((item: { id: string }) => item.id !== oldest.id);
  const taken = await platform.call('PATCH', `/v1/sandboxes/${id}/generations/${newest.id}`, {
    body: { name: 'clean' },
  });
  expect([taken.status, taken.body.error.code]).toEqual([409, 'already_exists']);
  const rewound = await platform.call('POST', `/v1/sandboxes/${id}/rewind`, { body: { generation: 'clean' }, ...wait });
  expect(rewound.body).toMatchObject({ status: 'running', generation_id: oldest.id });
  const unknown = await platform.call('POST', `/v1/sandboxes/${id}/rewind`, { body: { generation: 'nope' } });
  expect(unknown.status).toBe(404);
});

test('a snapshot is a template: it fixes the size, can be replaced and deleted', async () => {
  const { id } = await createRunning({ memory_mb: 1024 });
  const body = { sandbox_id: id, name: 'base-1' };
  const made = await platform.call('POST', '/v1/snapshots', { body, ...wait });
  expect([made.status, made.body.status, made.body.memory_mb]).toEqual([201, 'ready', 1024]);
  expect((await platform.call('POST', '/v1/snapshots', { body })).body.error.code).toBe('already_exists');
  const from = await createRunning({ template: 'base-1' });
  expect(from).toMatchObject({ template: 'base-1', memory_mb: 1024, status: 'running' });
  const resized = await platform.call('POST', '/v1/sandboxes', { body: { template: 'base-1', memory_mb: 2048 } });
  expect([resized.status, resized.body.error.details.field]).toEqual([400, 'memory_mb']);
  const replaced = await platform.call('POST', '/v1/snapshots', { body: { ...body, overwrite: true }, ...wait });
  expect([replaced.status, replaced.body.name]).toEqual([201, 'base-1']);
  expect(replaced.body.id).not.toBe(made.body.id);
  expect((await platform.call('DELETE', '/v1/snapshots/base-1')).status).toBe(202);
  expect((await platform.call('DELETE', '/v1/snapshots/minimal')).status).toBe(403);
  const unknown = await platform.call('POST', '/v1/sandboxes', { body: { template: 'nope' } });
  expect([unknown.status, unknown.body.error.details.available]).toEqual([404, ['minimal']]);
});

test('of two that replace one snapshot at once, both succeed, and the name is one of theirs', async () => {
  const { id } = await createRunning();
  const body = { sandbox_id: id, name: 'contested' };
  const first = (await platform.call('POST', '/v1/snapshots', { body, ...wait })).body.id;
  const release = platform.agent.hold('createSnapshot');
  const replace = () => platform.call('POST', '/v1/snapshots', { body: { ...body, overwrite: true }, ...wait });
  const replacing = [replace(), replace()];
  await expect
    .poll(() => platform.agent.calls.filter(({ rpc }) => rpc === 'createSnapshot').length)
    .toBeGreaterThanOrEqual(3);
  release();
  const replies = await Promise.all(replacing);
  expect(replies.map(({ status }) => status)).toEqual([201, 201]);
  const { items } = (await platform.call('GET', '/v1/snapshots?type=snapshot')).body;
  const named = items.filter(({ name }: { name: string }) => name === 'contested');
  expect(named).toHaveLength(1);
  expect(named[0].id).not.toBe(first);
});

test('a failed pause leaves the sandbox running, with the reason; a lost microVM is an error that can be resumed', async () => {
  const { id } = await createRunning();
  platform.agent.failNext('pauseSandbox', new AppError('disk_full', 'no space for the memory'));
  const failed = await platform.call('POST', `/v1/sandboxes/${id}/pause`, wait);
  expect([failed.status, failed.body.error.code]).toEqual([507, 'disk_full']);
  const after = await platform.call('GET', `/v1/sandboxes/${id}`);
  expect(after.body).toMatchObject({ status: 'running', status_reason: 'pause failed: no space for the memory' });
  platform.agent.sandboxes.lose(id.slice(3));
  await platform.call('POST', `/v1/sandboxes/${id}/pause`, wait);
  expect((await platform.call('GET', `/v1/sandboxes/${id}`)).body.status).toBe('error');
});
