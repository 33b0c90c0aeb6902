import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { must, newId, type SandboxId, uuidv7 } from '@aviary/core';
import { SandboxState } from '@aviary/proto/hostagent';
import { FakeHostAgent } from '@aviary/testing';
import { decodeJwt, importJWK, jwtVerify } from 'jose';
import { afterEach, expect, test } from 'vitest';
import { startTestPlatform, type TestPlatform } from '../test-platform.ts';

let platform: TestPlatform;
afterEach(() => platform[Symbol.asyncDispose]());

const wait = { headers: { prefer: 'wait=20' } };
const start = async (overrides = {}) => {
  platform = await startTestPlatform({ overrides });
  return platform;
};
const createRunning = async (): Promise<{ id: string; uuid: string }> => {
  const { body } = await platform.call('POST', '/v1/sandboxes', wait);
  return { id: body.id, uuid: body.id.slice(3) };
};
const statusOf = async (id: string) => (await platform.call('GET', `/v1/sandboxes/${id}`)).body.status;
const report = (events: object[], token = platform.host.token) =>
  platform.call('POST', '/v1/hosts/sandbox-events', { key: '', headers: { 'x-host-token': token }, body: { events } });
const beat = (token: string, id = platform.host.id) =>
  platform.call('POST', `/v1/hosts/${id}/heartbeat`, { key: '', headers: { 'x-host-token': token }, body: {} });

test('a one-time token works once, and bootstrap files are private', async () => {
  const { dataDirectory, call } = await start();
  const file = path.join(dataDirectory, 'bootstrap', 'host-token');
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  const body = {
    token: (await readFile(file, 'utf8')).trim(),
    address: '127.0.0.1:1',
    arch: 'x86_64',
    cpu_cores: 1,
    memory_mb: 1,
    disk_gb: 1,
    agent_version: '1',
  };
  const again = await call('POST', '/v1/hosts/register', { body, key: '' });
  expect([again.status, again.body.error.code]).toEqual([401, 'unauthorized']);
});

test('a refresh gives new credentials and ends the old refresh token', async () => {
  const { call, host } = await start();
  const refresh = (token: string) =>
    call('POST', '/v1/hosts/auth/refresh', { body: { refresh_token: token }, key: '' });
  const renewed = await refresh(host.refreshToken);
  expect(renewed.status).toBe(200);
  expect(renewed.body).toMatchObject({ host_id: host.id, epoch: 1 });
  expect((await refresh(host.refreshToken)).status).toBe(401);
  expect((await beat(renewed.body.token)).status).toBe(204);
  expect((await beat(renewed.body.token, `host-${uuidv7()}`)).status).toBe(403);
  const [header, , signature] = host.token.split('.');
  const forged = `${header}.${Buffer.from(JSON.stringify({ ...decodeJwt(host.token), sub: uuidv7() })).toString('base64url')}.${signature}`;
  expect((await beat(forged)).status).toBe(401);
});

test('commands to a host carry a short token for it alone, and its epoch', async () => {
  const { agent, controlPlane, host } = await start();
  await createRunning();
  const { authorization, epoch } = agent.calls[0] ?? {};
  const key = await importJWK(controlPlane.context.signingKey.publicJwk, 'EdDSA');
  const { payload } = await jwtVerify((authorization ?? '').replace('Bearer ', ''), key, {
    issuer: 'aviary',
    audience: host.id.slice(5),
  });
  expect((payload.exp ?? 0) - (payload.iat ?? 0)).toBeLessThanOrEqual(600);
  expect(epoch).toBe('1');
});

test('events are applied once, in their state, and only from the sandbox’s own host', async () => {
  await start();
  const { id, uuid } = await createRunning();
  const later = () => new Date(Date.now() + 60_000).toISOString();
  const paused = {
    id: 'e1',
    event: 'sandbox.auto_paused',
    sandbox_id: uuid,
    occurred_at: later(),
    reason: 'idle for 60 s',
    generation_id: newId('generation'),
  };
  expect((await report([paused])).status).toBe(204);
  const after = (await platform.call('GET', `/v1/sandboxes/${id}`)).body;
  expect(after).toMatchObject({ status: 'paused', status_reason: 'idle for 60 s' });
  await platform.call('POST', `/v1/sandboxes/${id}/resume`, wait);
  await report([paused]);
  expect(await statusOf(id)).toBe('running');
  await report([{ ...paused, id: 'e2', occurred_at: new Date(Date.now() - 3_600_000).toISOString() }]);
  expect(await statusOf(id)).toBe('running');
  expect((await report([{ ...paused, id: 'e3', event: 'sandbox.from_the_future' }])).status).toBe(204);
  const stranger = await platform.controlPlane.context.signingKey.signHostToken(newId('host'));
  expect((await report([{ ...paused, id: 'e4' }], stranger.token)).status).toBe(404);
  await report([{ ...paused, id: 'e5', event: 'sandbox.error', reason: 'VMM exited' }]);
  expect(await statusOf(id)).toBe('error');
});

test('a silent host loses its sandboxes to missing, and brings them back', async () => {
  await start({ reconciler: { heartbeatTtlMs: 0, graceMs: 0 } });
  const { id } = await createRunning();
  await platform.controlPlane.context.reconciler.runOnce();
  expect(await statusOf(id)).toBe('missing');
  const refused = await platform.call('POST', '/v1/sandboxes', wait);
  expect([refused.status, refused.body.error.code]).toEqual([503, 'no_capacity']);
  expect((await beat(platform.host.token)).status).toBe(204);
  await platform.controlPlane.context.reconciler.reconcileHost(platform.host.id.slice(5) as never);
  expect(await statusOf(id)).toBe('running');
});

test('the reconciler settles what differs, in both directions', async () => {
  await start({ reconciler: { graceMs: 0 } });
  const { sandboxes } = platform.agent;
  const [lost, idle, stays] = [await createRunning(), await createRunning(), await createRunning()];
  const stranger = uuidv7();
  sandboxes.plant(stranger, SandboxState.RUNNING, Date.now() - 3_600_000);
  sandboxes.lose(lost.uuid);
  sandboxes.setState(idle.uuid, SandboxState.PAUSED);
  await platform.controlPlane.context.reconciler.reconcileHost(platform.host.id.slice(5) as never);
  expect(await Promise.all([lost, idle, stays].map(({ id }) => statusOf(id)))).toEqual(['error', 'paused', 'running']);
  expect(sandboxes.get(stranger)).toBeUndefined();
  expect(sandboxes.get(stays.uuid)).toBeDefined();
});

test('the reconciler follows what a host says of a running sandbox in trouble', async () => {
  await start({ reconciler: { graceMs: 0 } });
  const { id, uuid } = await createRunning();
  must(platform.agent.sandboxes.get(uuid), 'it was created').reason = "the host's disk is full";
  await platform.controlPlane.context.reconciler.reconcileHost(platform.host.id.slice(5) as never);
  const { body } = await platform.call('GET', `/v1/sandboxes/${id}`);
  expect(body).toMatchObject({ status: 'running', status_reason: "the host's disk is full" });
});

test('what changed a moment ago is left alone', async () => {
  await start();
  const { id, uuid } = await createRunning();
  platform.agent.sandboxes.lose(uuid);
  platform.agent.sandboxes.plant(uuidv7() as SandboxId);
  await platform.controlPlane.context.reconciler.reconcileHost(platform.host.id.slice(5) as never);
  expect(await statusOf(id)).toBe('running');
  expect(platform.agent.sandboxes.list()).toHaveLength(1);
});

test('a sandbox on a host that is gone can still be cleared, and is freed when the host is back', async () => {
  await start({ reconciler: { graceMs: 0 } });
  const { id, uuid } = await createRunning();
  const port = Number(platform.agent.address.split(':')[1]);
  await platform.agent[Symbol.asyncDispose]();
  const deleted = await platform.call('DELETE', `/v1/sandboxes/${id}`, wait);
  expect(deleted.body).toMatchObject({
    status: 'stopped',
    status_reason: expect.stringContaining('has not freed it yet'),
  });
  await using back = await FakeHostAgent.start(port);
  back.sandboxes.plant(uuid);
  await platform.controlPlane.context.reconciler.reconcileHost(platform.host.id.slice(5) as never);
  expect(back.sandboxes.get(uuid)).toBeUndefined();
});
