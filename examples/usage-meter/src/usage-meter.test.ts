import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { insertApiKey, loadConfig, startControlPlane } from '@aviary/control-plane';
import { newId } from '@aviary/core';
import { silentLogger } from '@aviary/service-kit';
import { FakeHostAgent, openTestDatabase } from '@aviary/testing';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { usageMeter } from './usage-meter.ts';
import { deleteOldRuns } from './usage-store.ts';

/** A control plane with the extension, and a fake host. */
async function start(stack: AsyncDisposableStack) {
  const dataDirectory = await mkdtemp(path.join(tmpdir(), 'aviary-usage-'));
  stack.defer(() => rm(dataDirectory, { recursive: true, force: true }));
  const database = stack.use(await openTestDatabase());
  const agent = stack.use(await FakeHostAgent.start());
  const config = loadConfig({ AVIARY_PORT: '0', AVIARY_DATA_DIR: dataDirectory, AVIARY_CHECK_ANSWERS: '1' });
  const { url } = stack.use(
    await startControlPlane(config, {
      database,
      logger: silentLogger,
      extensions: [usageMeter()],
      hearing: { intervalMs: 20 },
    }),
  );
  const readBootstrap = async (name: string) =>
    (await readFile(path.join(dataDirectory, 'bootstrap', name), 'utf8')).trim();
  const key = await readBootstrap('api-key');
  const call = async (method: string, route: string, { body, as = key }: { body?: object; as?: string } = {}) => {
    const response = await fetch(`${url}${route}`, {
      method,
      headers: { 'x-api-key': as, prefer: 'wait=20', ...(body ? { 'content-type': 'application/json' } : {}) },
      ...(body ? { body: JSON.stringify(body) } : {}),
    });
    return { status: response.status, body: JSON.parse(await response.text()) };
  };
  const host = { arch: 'x86_64', cpu_cores: 64, memory_mb: 100_000, disk_gb: 1_000, agent_version: '1' };
  const token = await readBootstrap('host-token');
  await call('POST', '/v1/hosts/register', { body: { token, address: agent.address, ...host } });
  return { database, call };
}

let stack: AsyncDisposableStack;
let platform: Awaited<ReturnType<typeof start>>;
beforeAll(async () => {
  stack = new AsyncDisposableStack();
  platform = await start(stack);
});
afterAll(() => stack.disposeAsync());

const usage = async (as?: string) => (await platform.call('GET', '/v1/usage', as === undefined ? {} : { as })).body;

test('what runs is metered, in seconds and times its cores, until it is paused', async () => {
  const { id } = (await platform.call('POST', '/v1/sandboxes', { body: { vcpus: 2 } })).body;
  await expect.poll(async () => (await usage()).sandbox_seconds).toBeGreaterThan(0);
  await platform.call('POST', `/v1/sandboxes/${id}/pause`);
  // The hook hears of it a moment later: then the sum stands still.
  await expect
    .poll(async () => {
      const before = await usage();
      const after = await usage();
      return before.sandbox_seconds === after.sandbox_seconds && before.to < after.to;
    })
    .toBe(true);
  const { sandbox_seconds, vcpu_seconds } = await usage();
  expect(vcpu_seconds).toBeCloseTo(2 * sandbox_seconds, 3);
});

test('a team sees its own, between moments that make sense, and nobody nothing', async () => {
  const teamId = newId('team');
  await platform.database.db
    .insertInto('teams')
    .values({ id: teamId, name: 'Other', slug: 'other-of-usage' })
    .execute();
  const { key } = await insertApiKey(platform.database.db, { teamId, name: 'other', scopes: ['read'] });
  expect(await usage(key)).toMatchObject({ team_id: `team-${teamId}`, sandbox_seconds: 0, vcpu_seconds: 0 });
  expect((await platform.call('GET', '/v1/usage', { as: '' })).status).toBe(401);
  const past = '/v1/usage?from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z';
  expect((await platform.call('GET', past)).body.sandbox_seconds).toBe(0);
  const backwards = '/v1/usage?from=2020-01-02T00:00:00Z&to=2020-01-01T00:00:00Z';
  expect((await platform.call('GET', backwards)).status).toBe(400);
});

test('what ended long ago is forgotten', async () => {
  expect((await usage()).sandbox_seconds).toBeGreaterThan(0);
  await deleteOldRuns(platform.database.db, new Date(Date.now() + 60_000));
  expect((await usage()).sandbox_seconds).toBe(0);
});
