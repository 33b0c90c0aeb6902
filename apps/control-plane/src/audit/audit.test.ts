import { formatId, platformTeamId } from '@aviary/core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTestPlatform, type TestPerson, type TestPlatform } from '../test-platform.ts';

let platform: TestPlatform;
let owner: TestPerson;
let member: TestPerson;
beforeAll(async () => {
  platform = await startTestPlatform();
  owner = await platform.signIn();
  member = await platform.signIn({ teamId: owner.teamId, role: 'member' });
  await owner.call('POST', '/v1/sandboxes', { headers: { prefer: 'wait=20' } });
  await member.call('POST', '/v1/api-keys', { body: { name: 'k' } });
  await owner.call('POST', `/v1/teams/${formatId('team', owner.teamId)}/members`, { body: { email: 'a@example.com' } });
});
afterAll(() => platform?.[Symbol.asyncDispose]());

const actions = async (person: TestPerson, query = '') =>
  (await person.call('GET', `/v1/audit-logs${query}`)).body.items.map((item: { action: string }) => item.action);

test('members see what is for the team, those who run it all, and others nothing', async () => {
  expect(await actions(owner)).toEqual(['invitation.create', 'api_key.create', 'sandbox.create']);
  expect(await actions(member)).toEqual(['api_key.create', 'sandbox.create']);
  expect(await actions(await platform.signIn())).toEqual([]);
  const [entry] = (await owner.call('GET', '/v1/audit-logs?limit=1')).body.items;
  expect(entry).toMatchObject({
    actor: { type: 'user', id: formatId('user', owner.userId), name: owner.email },
    resource: { type: 'invitation', id: expect.stringMatching(/^inv-/) },
    scope: 'admin',
    metadata: { email: 'a@example.com' },
  });
});

test.each([
  ['?resource_type=sandbox,api_key', ['api_key.create', 'sandbox.create']],
  ['?resource_type=sandbox&resource_type=api_key', ['api_key.create', 'sandbox.create']],
  ['?action=sandbox.create', ['sandbox.create']],
  ['?action=sandbox.create&resource_type=api_key', []],
  ['?actor=system', []],
  ['?to=2020-01-01T00:00:00Z', []],
  ['?from=2020-01-01T00:00:00Z&to=9000-01-01T00:00:00Z&action=api_key.create', ['api_key.create']],
])('%s filters', async (query, expected) => {
  expect(await actions(owner, query)).toEqual(expected);
});

test('an actor is found by their id', async () => {
  expect(await actions(owner, `?actor=${formatId('user', member.userId)}`)).toEqual(['api_key.create']);
});

test.each([
  '?action=x',
  '?resource_type=sandbox,',
  '?actor=me',
  '?from=yesterday',
  '?to=9999-99-99T00:00:00Z',
  '?cursor=1~x',
])('%s is refused', async (query) => {
  expect((await owner.call('GET', `/v1/audit-logs${query}`)).status).toBe(400);
});

test('an export has one entry a line, and what the list has', async () => {
  const reply = await owner.call('GET', '/v1/audit-logs/export?resource_type=api_key,sandbox');
  expect(reply.headers.get('content-type')).toContain('application/x-ndjson');
  const lines = reply.body
    .trimEnd()
    .split('\n')
    .map((line: string) => JSON.parse(line));
  expect(lines).toEqual((await owner.call('GET', '/v1/audit-logs?resource_type=api_key,sandbox')).body.items);
});

test('a host that falls silent and comes back, and a pause by itself, are told by the system', async () => {
  await using quiet = await startTestPlatform({ overrides: { reconciler: { heartbeatTtlMs: 0 } } });
  const { database, controlPlane, host } = quiet;
  const created = await quiet.call('POST', '/v1/sandboxes', { headers: { prefer: 'wait=20' } });
  const { run, event_sequence: sequence } = await database.db
    .selectFrom('sandboxes')
    .select(['run', 'event_sequence'])
    .executeTakeFirstOrThrow();
  const event = {
    id: '0190c2d4-7a1b-7c3d-8e5f-0123456789ab',
    event: 'sandbox.auto_paused',
    sandbox_id: created.body.id,
    occurred_at: new Date().toISOString(),
    reason: 'idle for 5 s',
    run,
    sequence: sequence + 1,
  };
  const asHost = { key: '', headers: { 'x-host-token': host.token } };
  for (let times = 0; times < 2; times++)
    await quiet.call('POST', '/v1/hosts/sandbox-events', { ...asHost, body: { events: [event] } });
  const told = (teamId: typeof platformTeamId) =>
    database.db
      .selectFrom('audit_logs')
      .select(['action', 'actor_type', 'metadata'])
      .where('team_id', '=', teamId)
      .where('action', 'in', ['sandbox.auto_pause', 'host.marked_down', 'host.marked_up'])
      .orderBy('position')
      .execute();
  expect(await told(quiet.teamId)).toEqual([
    { action: 'sandbox.auto_pause', actor_type: 'system', metadata: { reason: 'idle for 5 s' } },
  ]);
  await database.db
    .updateTable('hosts')
    .set({ last_heartbeat_at: new Date(0) })
    .execute();
  await controlPlane.context.reconciler.runOnce();
  await quiet.call('POST', `/v1/hosts/${host.id}/heartbeat`, asHost);
  await quiet.call('POST', `/v1/hosts/${host.id}/heartbeat`, asHost);
  expect((await told(platformTeamId)).map(({ action }) => action)).toEqual(['host.marked_down', 'host.marked_up']);
});
