import { waitFor } from '@aviary/service-kit';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { startTestPlatform, type TestPerson, type TestPlatform } from '../test-platform.ts';

let platform: TestPlatform;
let owner: TestPerson;
let admin: TestPerson;
let member: TestPerson;
beforeAll(async () => {
  platform = await startTestPlatform();
  const { teamId } = platform;
  owner = await platform.signIn({ teamId });
  admin = await platform.signIn({ teamId, role: 'admin' });
  member = await platform.signIn({ teamId, role: 'member' });
});
afterAll(() => platform?.[Symbol.asyncDispose]());

const create = async (person: TestPerson, body: object = { name: 'a key' }) =>
  (await person.call('POST', '/v1/api-keys', { body })).body;
const statusOf = async (key: string, method = 'GET', url = '/v1/sandboxes') =>
  (await platform.call(method, url, { key })).status;
const flush = () => platform.controlPlane.context.keyUses.flush();
const refusedEntries = (keyId: string) =>
  platform.database.db
    .selectFrom('audit_logs')
    .select('metadata')
    .where('action', '=', 'api_key.refused')
    .where('resource_id', '=', keyId.slice(4))
    .execute();

test('a key is shown once, works under both prefixes, and is listed without itself', async () => {
  const { key, ...made } = await create(member, { name: 'mine', scopes: ['read'] });
  expect(key).toMatch(/^avy_[0-9a-f]{40}$/);
  expect(made).toMatchObject({ name: 'mine', scopes: ['read'], prefix: key.slice(0, 12), last_used_at: null });
  expect(made.created_by.email).toBe(member.email);
  expect(await statusOf(key.replace('avy_', 'e2b_'))).toBe(200);
  expect(await statusOf(key, 'POST')).toBe(403);
  const { items } = (await owner.call('GET', '/v1/api-keys')).body;
  expect(items[0]).toEqual(made);
  expect(JSON.stringify(items)).not.toContain(key.slice(12));
});

test('the list goes page by page through all keys', async () => {
  for (let index = 0; index < 3; index++) await create(member);
  const all = (await owner.call('GET', '/v1/api-keys')).body.items;
  const paged = [];
  for (let cursor = ''; ; ) {
    const { body } = await owner.call('GET', `/v1/api-keys?limit=2${cursor}`);
    paged.push(...body.items);
    if (body.next_cursor === null) break;
    cursor = `&cursor=${body.next_cursor}`;
  }
  expect(paged).toEqual(all);
});

test('members revoke their own, admins any, and nobody those of another team', async () => {
  const ofOwner = await create(owner);
  const ofMember = await create(member);
  const stranger = await platform.signIn();
  const revoke = async (person: TestPerson, { id }: { id: string }) =>
    (await person.call('DELETE', `/v1/api-keys/${id}`)).status;
  expect(await revoke(stranger, ofOwner)).toBe(404);
  expect(await revoke(member, ofOwner)).toBe(403);
  expect(await revoke(member, ofMember)).toBe(204);
  expect(await revoke(admin, ofOwner)).toBe(204);
  expect(await revoke(admin, ofOwner)).toBe(204);
  expect(await statusOf(ofOwner.key)).toBe(401);
});

test('a key makes no keys, and one that ends in the past is not made', async () => {
  expect((await platform.call('POST', '/v1/api-keys', { body: { name: 'x' } })).status).toBe(403);
  for (const expires_at of ['2020-01-01T00:00:00Z', '9999-99-99T00:00:00Z'])
    expect((await owner.call('POST', '/v1/api-keys', { body: { name: 'x', expires_at } })).status).toBe(400);
});

test('uses are written together, and those of a dead key told of, however often it is tried', async () => {
  const { id, key } = await create(owner);
  await statusOf(key);
  const lastUsed = async () =>
    (await owner.call('GET', '/v1/api-keys')).body.items.find((item: { id: string }) => item.id === id).last_used_at;
  expect(await lastUsed()).toBeNull();
  await flush();
  expect(await lastUsed()).not.toBeNull();
  await platform.database.db
    .updateTable('api_keys')
    .set({ expires_at: new Date(Date.now() - 1_000) })
    .where('id', '=', id.slice(4) as never)
    .execute();
  for (let index = 0; index < 5; index++) expect(await statusOf(key)).toBe(401);
  await flush();
  await statusOf(key);
  await flush();
  expect(await refusedEntries(id)).toEqual([{ metadata: { reason: 'expired', count: 5 } }]);
});

test('a key that is revoked closes what it has open, on every replica, and nothing else', async () => {
  await using _replica = await platform.startReplica();
  const created = await platform.call('POST', '/v1/sandboxes', { headers: { prefer: 'wait=20' } });
  platform.agent.sandboxes.exec = () => ({ isEndless: true });
  const { id, key } = await create(owner);
  const open = async (url: string, headers: Record<string, string>) => {
    const socket = new WebSocket(`${url.replace('http', 'ws')}/v1/sandboxes/${created.body.id}/exec/stream`, {
      headers,
    });
    const closed = new Promise<number>((resolve) => socket.on('close', resolve));
    await new Promise((resolve) => socket.once('open', resolve));
    socket.send(JSON.stringify({ type: 'start', cmd: 'sleep' }));
    await new Promise((resolve) => socket.once('message', resolve));
    return { socket, closed };
  };
  const { url } = platform.controlPlane;
  const here = await open(url, { 'x-api-key': key });
  const there = await open(_replica.url, { 'x-api-key': key });
  const other = await open(url, { 'x-api-key': platform.apiKey });
  const waiting = platform.call('POST', `/v1/sandboxes/${created.body.id}/exec`, { key, body: { cmd: 'sleep' } });
  const { commands } = platform.agent.sandboxes;
  const running = (count: number) =>
    waitFor(
      { what: `${count} running commands`, timeoutMs: 10_000 },
      () => commands.pids.length === count || undefined,
    );
  await running(4);
  expect((await owner.call('DELETE', `/v1/api-keys/${id}`)).status).toBe(204);
  expect(await Promise.all([here.closed, there.closed])).toEqual([1008, 1008]);
  const refused = await waiting;
  expect([refused.status, refused.body.error.message]).toEqual([401, expect.stringContaining('revoked')]);
  await running(1);
  expect(other.socket.readyState).toBe(WebSocket.OPEN);
  other.socket.terminate();
  await running(0);
});

test('a member who is taken out of the team loses what they have open', async () => {
  const leaver = await platform.signIn({ teamId: platform.teamId, role: 'member' });
  const held = platform.agent.hold('createSandbox');
  const waiting = leaver.call('POST', '/v1/sandboxes', { headers: { prefer: 'wait=60' } });
  await waitFor(
    { what: 'the wait', timeoutMs: 10_000 },
    () => platform.agent.calls.filter(({ rpc }) => rpc === 'createSandbox').length > 1 || undefined,
  );
  await platform.database.db.deleteFrom('team_members').where('user_id', '=', leaver.userId).execute();
  await platform.controlPlane.context.openCalls.lookAtAll();
  expect((await waiting).status).toBe(403);
  held();
});
