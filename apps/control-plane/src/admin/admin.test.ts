import { AppError, formatId, parseId } from '@aviary/core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTestPlatform, type TestPerson, type TestPlatform } from '../test-platform.ts';
import { listBusyOfOnlyMember } from './admin-store.ts';
import { setUserActive } from './change-user.ts';
import { pauseDeactivated } from './pause-deactivated.ts';

let platform: TestPlatform;
let admin: TestPerson;
beforeAll(async () => {
  platform = await startTestPlatform();
  admin = await platform.signIn({ isAdmin: true });
});
afterAll(() => platform?.[Symbol.asyncDispose]());

const userUrl = ({ userId }: TestPerson, what: string) => `/v1/admin/users/${formatId('user', userId)}/${what}`;
const setAdmin = async (by: TestPerson, whom: TestPerson, isAdmin: boolean) =>
  (await by.call('PUT', userUrl(whom, 'admin'), { body: { admin: isAdmin } })).status;
const setActive = async (by: TestPerson, whom: TestPerson, active: boolean) =>
  (await by.call('PUT', userUrl(whom, 'active'), { body: { active } })).status;

test('people, teams and sandboxes of all are listed and found', async () => {
  const person = await platform.signIn({ email: 'Zoe.Quick@example.com' });
  const sandbox = (await person.call('POST', '/v1/sandboxes', { headers: { prefer: 'wait=20' } })).body;
  const found = (await admin.call('GET', '/v1/admin/users?search=zoe.q')).body.items;
  expect(found).toMatchObject([{ email: 'Zoe.Quick@example.com', teams_joined: 1, teams_owned: 1, status: 'active' }]);
  const teams = (await admin.call('GET', '/v1/admin/teams?limit=1')).body;
  expect(teams.items).toMatchObject([{ owner_email: 'Zoe.Quick@example.com', member_count: 1, sandbox_count: 1 }]);
  expect(teams.next_cursor).not.toBeNull();
  const [first] = (await admin.call('GET', '/v1/admin/sandboxes')).body.items;
  expect(first).toMatchObject({ team_id: formatId('team', person.teamId), sandbox: { id: sandbox.id } });
});

test('who is deactivated is out at once, with their keys, and what only they use is paused', async () => {
  const person = await platform.signIn();
  const sandbox = (await person.call('POST', '/v1/sandboxes', { headers: { prefer: 'wait=20' } })).body;
  const { key } = (await person.call('POST', '/v1/api-keys', { body: { name: 'k' } })).body;
  expect(await setActive(admin, admin, false)).toBe(409);
  expect(await setActive(admin, person, false)).toBe(204);
  expect((await person.call('GET', '/v1/teams')).status).toBe(401);
  expect((await platform.call('GET', '/v1/sandboxes', { key })).status).toBe(401);
  const statusOf = async () =>
    (await admin.call('GET', '/v1/admin/sandboxes')).body.items.find(
      (item: { sandbox: { id: string } }) => item.sandbox.id === sandbox.id,
    ).sandbox.status;
  await expect.poll(statusOf).toBe('paused');
  expect(await setActive(admin, person, true)).toBe(204);
  const log = (await admin.call('GET', '/v1/admin/audit-logs?resource_type=user')).body.items;
  expect(log.map((item: { action: string }) => item.action)).toEqual(['user.activate', 'user.deactivate']);
});

test('what only a deactivated person uses is paused also when the process dies in between, or a pause fails', async () => {
  const { context } = platform.controlPlane;
  const person = await platform.signIn();
  const sandbox = (await person.call('POST', '/v1/sandboxes', { headers: { prefer: 'wait=20' } })).body;
  const now = new Date();
  const actor = { type: 'user', id: admin.userId, name: admin.email } as const;
  const caller = { ...admin, currentTeamId: null, name: '', isAdmin: true, actor };
  await platform.database.transaction((unit) =>
    setUserActive(unit, caller, { userId: person.userId, isActive: false, now }),
  );
  platform.agent.failNext('pauseSandbox', new AppError('internal', 'not this time'));
  const look = async () => {
    await pauseDeactivated(context);
    const { status } = await platform.database.db
      .selectFrom('sandboxes')
      .select('status')
      .where('id', '=', parseId('sandbox', sandbox.id))
      .executeTakeFirstOrThrow();
    const waiting = platform.database.db.selectFrom('users').select('id').where('pause_until', 'is not', null);
    return [status, (await waiting.execute()).length];
  };
  await expect.poll(look).toEqual(['paused', 0]);
  expect(platform.agent.calls.filter(({ rpc }) => rpc === 'pauseSandbox').length).toBeGreaterThan(1);
});

test('what somebody who stays uses too goes on when another of the team is deactivated', async () => {
  const person = await platform.signIn();
  await platform.signIn({ teamId: person.teamId, role: 'member' });
  const own = (await person.call('POST', '/v1/sandboxes', { headers: { prefer: 'wait=20' } })).body;
  expect(await listBusyOfOnlyMember(platform.database.db, person.userId)).toEqual([]);
  expect(await setActive(admin, person, false)).toBe(204);
  await pauseDeactivated(platform.controlPlane.context);
  const items = (await admin.call('GET', '/v1/admin/sandboxes')).body.items;
  const found = items.find(({ sandbox }: { sandbox: { id: string } }) => sandbox.id === own.id);
  expect(found.sandbox.status).toBe('running');
});

test('one administrator stays, also of two who demote each other at once', async () => {
  expect(await setAdmin(admin, admin, false)).toBe(409);
  const second = await platform.signIn();
  expect(await setAdmin(second, second, true)).toBe(403);
  expect(await setAdmin(admin, second, true)).toBe(204);
  const statuses = await Promise.all([setAdmin(admin, second, false), setAdmin(second, admin, false)]);
  expect(statuses.sort()).toEqual([204, 403]);
  const { db } = platform.database;
  const left = await db.selectFrom('users').select('id').where('is_admin', '=', true).execute();
  expect(left).toHaveLength(1);
  await db.updateTable('users').set({ is_admin: true }).where('id', '=', admin.userId).execute();
});

test('a team is deleted by one who is not in it', async () => {
  const owner = await platform.signIn();
  const url = `/v1/admin/teams/${formatId('team', owner.teamId)}`;
  expect((await admin.call('DELETE', url)).status).toBe(204);
  expect((await owner.call('GET', `/v1/teams/${formatId('team', owner.teamId)}`)).status).toBe(404);
  expect((await admin.call('DELETE', url)).status).toBe(404);
});
