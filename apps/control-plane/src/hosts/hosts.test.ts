import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { AppError, type HostId, must, newId, type SandboxId, uuidv7 } from '@aviary/core';
import { SandboxState } from '@aviary/proto/hostagent';
import { FakeHostAgent } from '@aviary/testing';
import { decodeJwt, importJWK, jwtVerify } from 'jose';
import { afterEach, expect, test } from 'vitest';
import { startTestPlatform, type TestPlatform } from '../test-platform.ts';
import { sumSandboxes } from './placement-store.ts';
import { createHostToken } from './register-host.ts';

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
const beat = (token: string, id = platform.host.id, body = {}) =>
  platform.call('POST', `/v1/hosts/${id}/heartbeat`, { key: '', headers: { 'x-host-token': token }, body });

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

test('a new registration ends what an earlier one can do', async () => {
  const { call, host, controlPlane } = await start();
  const hostId = host.id.slice(5) as HostId;
  const { token } = await createHostToken(controlPlane.context, { hostId, teamId: null });
  const machine = {
    address: '127.0.0.1:1',
    arch: 'x86_64',
    cpu_cores: 1,
    memory_mb: 1,
    disk_gb: 1,
    agent_version: '1',
  };
  const { body } = await call('POST', '/v1/hosts/register', { body: { token, ...machine }, key: '' });
  expect(body).toMatchObject({ host_id: host.id, epoch: 2 });
  const refresh = (refresh_token: string) =>
    call('POST', '/v1/hosts/auth/refresh', { body: { refresh_token }, key: '' });
  expect((await refresh(host.refreshToken)).status).toBe(401);
  expect((await refresh(body.refresh_token)).status).toBe(200);
});

test('a host that listens elsewhere after a restart is called there', async () => {
  const { host, agent } = await start();
  const { port } = new URL(`http://${agent.address}`);
  await agent[Symbol.asyncDispose]();
  await using moved = await FakeHostAgent.start();
  expect(new URL(`http://${moved.address}`).port).not.toBe(port);
  expect((await beat(host.token, host.id, { address: moved.address })).status).toBe(204);
  const { body } = await platform.call('POST', '/v1/sandboxes', wait);
  expect(body.status).toBe('running');
  expect(moved.calls.map(({ rpc }) => rpc)).toContain('createSandbox');
});

test('commands to a host carry a short token for it alone, and its epoch', async () => {
  const { agent, controlPlane, host } = await start();
  await createRunning();
  const { authorization } = agent.calls[0] ?? {};
  const key = await importJWK(controlPlane.context.signingKey.publicJwk, 'EdDSA');
  const { payload } = await jwtVerify((authorization ?? '').replace('Bearer ', ''), key, {
    issuer: 'aviary',
    audience: host.id.slice(5),
  });
  expect((payload.exp ?? 0) - (payload.iat ?? 0)).toBeLessThanOrEqual(600);
  expect(payload['epoch']).toBe(1);
});

/** An event as its host tells it, `clockMinutes` off by its clock. */
const autoPaused = (sandboxId: string, { run = 1, sequence = 1, clockMinutes = 0, ...others }) => ({
  id: `evt-${sequence}-${clockMinutes}`,
  event: 'sandbox.auto_paused',
  sandbox_id: sandboxId,
  run,
  sequence,
  occurred_at: new Date(Date.now() + clockMinutes * 60_000).toISOString(),
  ...others,
});
const resume = (id: string) => platform.call('POST', `/v1/sandboxes/${id}/resume`, wait);

test('events are applied once, in their state, and only from the sandbox’s own host', async () => {
  await start();
  const { id, uuid } = await createRunning();
  const paused = autoPaused(uuid, { reason: 'idle for 60 s', generation_id: newId('generation') });
  expect((await report([paused])).status).toBe(204);
  const after = (await platform.call('GET', `/v1/sandboxes/${id}`)).body;
  expect(after).toMatchObject({ status: 'paused', status_reason: 'idle for 60 s' });
  await resume(id);
  await report([paused]);
  expect(await statusOf(id)).toBe('running');
  const unknown = autoPaused(uuid, { sequence: 2, event: 'sandbox.from_the_future' });
  expect((await report([unknown])).status).toBe(204);
  const stranger = await platform.controlPlane.context.signingKey.signHostToken(newId('host'));
  expect((await report([autoPaused(uuid, { sequence: 3 })], stranger.token)).status).toBe(404);
  expect(await statusOf(id)).toBe('running');
  await report([autoPaused(uuid, { sequence: 4, event: 'sandbox.error', reason: 'VMM exited' })]);
  expect(await statusOf(id)).toBe('error');
});

test.each([-90, 90])('a host whose clock is %i minutes off is believed as any other', async (clockMinutes) => {
  await start();
  const { id, uuid } = await createRunning();
  await report([autoPaused(uuid, { clockMinutes })]);
  expect(await statusOf(id)).toBe('paused');
  await resume(id);
  await report([autoPaused(uuid, { clockMinutes })]);
  expect(await statusOf(id)).toBe('running');
});

test('events that come late or out of order do not undo what came after them', async () => {
  const { agent } = await start();
  const { id, uuid } = await createRunning();
  await report([autoPaused(uuid, { sequence: 5 })]);
  // The host says with its answer how far its events are contained in it, and that this is another run.
  Object.assign(agent.sandboxes.get(uuid) ?? {}, { run: 2, eventSequence: 8n });
  await resume(id);
  for (const late of [
    autoPaused(uuid, { run: 1, sequence: 7 }),
    autoPaused(uuid, { run: 1, sequence: 9 }),
    autoPaused(uuid, { run: 2, sequence: 8 }),
  ]) {
    await report([late]);
    expect(await statusOf(id)).toBe('running');
  }
  await report([
    autoPaused(uuid, { run: 2, sequence: 10 }),
    autoPaused(uuid, { run: 2, sequence: 9, event: 'sandbox.error' }),
  ]);
  expect(await statusOf(id)).toBe('paused');
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

test('a host is not called silent for the time in which nobody listened', async () => {
  const { controlPlane } = await start();
  const { database, reconciler } = controlPlane.context;
  await database.db
    .updateTable('hosts')
    .set({ last_heartbeat_at: new Date(0) })
    .execute();
  await reconciler.runOnce();
  const hosts = await database.db.selectFrom('hosts').select('status').execute();
  expect(hosts).toEqual([{ status: 'online' }]);
});

test('a create that failed before it ever ran holds no disk of its host', async () => {
  const { agent, controlPlane } = await start();
  agent.failNext('createSandbox', new AppError('disk_full', 'the disk of the host is full'));
  expect((await platform.call('POST', '/v1/sandboxes', wait)).body.error.code).toBe('disk_full');
  const { items } = (await platform.call('GET', '/v1/sandboxes')).body;
  expect(items).toMatchObject([{ status: 'error' }]);
  const hostId = platform.host.id.slice(5) as HostId;
  expect(await sumSandboxes(controlPlane.context.database.db, [hostId])).toEqual([]);
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

test('a microVM that its host cannot end keeps no other sandbox from being settled', async () => {
  await start({ reconciler: { graceMs: 0 } });
  const { agent, controlPlane, host } = platform;
  const hourAgo = Date.now() - 3_600_000;
  const [stuck, stranger] = [uuidv7(), uuidv7()];
  agent.sandboxes.plant(stuck, SandboxState.RUNNING, hourAgo);
  agent.sandboxes.plant(stranger, SandboxState.RUNNING, hourAgo);
  agent.failNext('destroySandbox', new AppError('internal', 'it does not end'));
  await controlPlane.context.reconciler.reconcileHost(host.id.slice(5) as never);
  expect(agent.sandboxes.list()).toHaveLength(1);
  expect(agent.calls.filter(({ rpc }) => rpc === 'destroySandbox')).toHaveLength(2);
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
