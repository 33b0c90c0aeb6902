import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { AppError, formatId, parseId } from '@aviary/core';
import { silentLogger, systemClock } from '@aviary/service-kit';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { startTestPlatform, type TestPerson, type TestPlatform } from '../test-platform.ts';
import { purgeAccounts } from './purge-accounts.ts';
import { callAnonymously, logInAs, password, signUpAs, type TestAccount } from './test-account.ts';

const dayMs = 24 * 3600 * 1000;
const wait = { prefer: 'wait=20' };

let platform: TestPlatform;
let admin: TestPerson;
beforeAll(async () => {
  platform = await startTestPlatform({ overrides: { teamDeletion: { lateMs: 0, intervalMs: 3600_000 } } });
  admin = await platform.signIn({ isAdmin: true });
});
afterAll(() => platform?.[Symbol.asyncDispose]());

let people = 0;
let user: TestAccount;
beforeEach(async () => {
  user = await signUpAs(platform, `Person${++people}@example.com`);
});

const deleteMe = (account: TestAccount, proof: object = { password }) => account.call('DELETE', '/v1/me', proof);
const adminUrl = ({ userId }: { userId: string }, rest = '') => `/v1/admin/users/${userId}${rest}`;
const statusOf = async (account: TestAccount) => (await admin.call('GET', adminUrl(account))).body.status;
/** What the platform does `days` from now with what was deleted. */
const purgeIn = (days: number) =>
  purgeAccounts({
    database: platform.database,
    clock: { ...systemClock, now: () => Date.now() + days * dayMs },
    logger: silentLogger,
  });

describe('an account that is deleted', () => {
  test('is closed at once, for its sessions, keys, teams and log-ins', async () => {
    const boss = await platform.signIn();
    await platform.database.db
      .insertInto('team_members')
      .values({ team_id: boss.teamId, user_id: parseId('user', user.userId), role: 'admin' })
      .execute();
    const { key } = (await user.call('POST', '/v1/api-keys', { name: 'own' })).body;
    const { access_token } = (
      await user.call('POST', '/v1/auth/switch-team', { team_id: formatId('team', boss.teamId) })
    ).body;
    const inOther = { key: '', headers: { authorization: `Bearer ${access_token}` } };
    const other = (await platform.call('POST', '/v1/api-keys', { ...inOther, body: { name: 'other' } })).body.key;
    for (const each of [key, other])
      expect((await platform.call('GET', '/v1/sandboxes', { key: each })).status).toBe(200);

    expect((await deleteMe(user, { password: 'not it' })).status).toBe(403);
    expect((await deleteMe(user, {})).status).toBe(403);
    const { status, headers } = await deleteMe(user);
    expect([status, headers.get('set-cookie')]).toEqual([204, expect.stringContaining('Max-Age=0')]);

    expect((await user.call('GET', '/v1/me')).status).toBe(401);
    expect((await callAnonymously(platform, '/v1/auth/refresh', { refresh_token: user.refreshToken })).status).toBe(
      401,
    );
    expect((await logInAs(platform, user.email)).status).toBe(401);
    for (const each of [key, other])
      expect((await platform.call('GET', '/v1/sandboxes', { key: each })).status).toBe(401);
    const members = (await boss.call('GET', `/v1/teams/${formatId('team', boss.teamId)}/members`)).body.items;
    expect(members).toHaveLength(1);
    const team = (await admin.call('GET', '/v1/admin/teams?search=person1')).body.items[0];
    expect(team).toMatchObject({ id: user.teamId, deleted_at: expect.any(String), member_count: 0 });
    const log = (await boss.call('GET', '/v1/audit-logs?action=member.leave')).body.items;
    expect(log).toMatchObject([{ actor: { id: user.userId }, metadata: { cause: 'the account was deleted' } }]);
    const [entry] = (await admin.call('GET', '/v1/admin/audit-logs?action=user.delete')).body.items;
    expect(entry).toMatchObject({ actor: { id: user.userId }, metadata: { deleted_teams: [user.teamId] } });
  });

  test('leaves its address to whoever signs up next', async () => {
    await deleteMe(user);
    const next = await signUpAs(platform, user.email);
    expect(next.userId).not.toBe(user.userId);
    expect((await admin.call('POST', adminUrl(user, '/restore'))).status).toBe(409);
    await deleteMe(next);
    expect((await admin.call('POST', adminUrl(user, '/restore'))).status).toBe(204);
    expect((await admin.call('POST', adminUrl(next, '/restore'))).status).toBe(409);
  });

  test('takes what runs in its team with it', async () => {
    const headers = { authorization: `Bearer ${user.accessToken}`, ...wait };
    const sandbox = (await platform.call('POST', '/v1/sandboxes', { key: '', headers })).body;
    expect(sandbox.status).toBe('running');
    const destroyed = () => platform.agent.calls.filter(({ rpc }) => rpc === 'destroySandbox').length;
    const before = destroyed();
    await deleteMe(user);
    await platform.controlPlane.context.teamDeletion.runOnce();
    await expect.poll(destroyed).toBe(before + 1);
  });

  test('is not while it owns a team that has others', async () => {
    const url = `/v1/teams/${user.teamId}`;
    const heir = await platform.signIn({ teamId: parseId('team', user.teamId), role: 'member' });
    for (const reply of [await deleteMe(user), await admin.call('DELETE', adminUrl(user))]) {
      expect([reply.status, reply.body.error.details.teams]).toEqual([
        409,
        [{ id: user.teamId, name: expect.stringContaining(`Person${people}`) }],
      ]);
    }
    expect((await user.call('GET', url)).status).toBe(200);
    await user.call('POST', `${url}/transfer`, { user_id: formatId('user', heir.userId) });
    expect((await deleteMe(user)).status).toBe(204);
    expect((await heir.call('GET', url)).body.members).toHaveLength(1);
  });

  test('shows by a new log-in that it is its owner, where it has no password', async () => {
    const [late, fresh] = [await platform.signIn(), await platform.signIn()];
    const { db } = platform.database;
    const hourAgo = new Date(Date.now() - 3600_000);
    await db.updateTable('sessions').set({ created_at: hourAgo }).where('id', '=', late.sessionId).execute();
    expect((await late.call('DELETE', '/v1/me')).status).toBe(403);
    expect((await fresh.call('DELETE', '/v1/me')).status).toBe(204);
  });

  test('is not that of the last administrator', async () => {
    const refused = await admin.call('DELETE', '/v1/me');
    expect([refused.status, refused.body.error.message]).toEqual([409, expect.stringContaining('last administrator')]);
    expect((await admin.call('DELETE', adminUrl({ userId: formatId('user', admin.userId) }))).status).toBe(409);
  });
});

describe('an administrator', () => {
  test('deletes an account and restores it, with its password and a new team', async () => {
    await admin.call('PUT', adminUrl(user, '/active'), { body: { active: false } });
    expect((await admin.call('DELETE', adminUrl(user))).status).toBe(204);
    expect((await admin.call('DELETE', adminUrl(user))).status).toBe(404);
    expect(await statusOf(user)).toBe('deleted');
    expect((await admin.call('PUT', adminUrl(user, '/active'), { body: { active: true } })).status).toBe(404);
    expect((await admin.call('POST', adminUrl(user, '/restore'))).status).toBe(204);
    expect((await admin.call('POST', adminUrl(user, '/restore'))).status).toBe(404);
    const again = await logInAs(platform, user.email);
    expect(again.body).toMatchObject({ user: { id: user.userId }, team: { role: 'owner' } });
    expect(again.body.team.id).not.toBe(user.teamId);
    const log = (await admin.call('GET', '/v1/admin/audit-logs?action=user.restore,user.delete&limit=2')).body.items;
    expect(log.map(({ actor }: { actor: { name: string } }) => actor.name)).toEqual([admin.email, admin.email]);
  });
});

describe('a deleted account', () => {
  test('is purged after 15 days, and taken out of all that was told', async () => {
    const boss = await platform.signIn();
    const url = `/v1/teams/${formatId('team', boss.teamId)}`;
    const { token } = (await boss.call('POST', `${url}/members`, { body: { email: user.email.toLowerCase() } })).body;
    await user.call('POST', '/v1/invitations/accept', { token });
    await boss.call('PATCH', `${url}/members/${user.userId}`, { body: { role: 'admin' } });
    await user.call('POST', `${url}/members`, { email: 'guest@example.com' });
    await user.call('PATCH', '/v1/me', { name: 'Somebody Else' });
    await deleteMe(user);
    const next = await signUpAs(platform, user.email);

    const { db } = platform.database;
    const bare = parseId('user', user.userId);
    const told = async () =>
      JSON.stringify(await db.selectFrom('audit_logs').selectAll().where('created_at', '<', before).execute());
    const before = new Date();
    expect(await told()).toContain(bare);
    await purgeIn(14.9);
    expect(await statusOf(user)).toBe('deleted');
    await purgeIn(15);
    expect((await admin.call('GET', adminUrl(user))).status).toBe(404);
    expect((await admin.call('POST', adminUrl(user, '/restore'))).status).toBe(404);
    for (const trace of [bare, 'Somebody Else']) expect(await told()).not.toContain(trace);
    const ofNext = await db
      .selectFrom('audit_logs')
      .selectAll()
      .where('resource_id', '=', parseId('user', next.userId));
    expect(JSON.stringify(await ofNext.execute())).toContain(user.email);
    const entries = (await boss.call('GET', '/v1/audit-logs')).body.items;
    const seen = entries.map(({ action, actor, resource, metadata }: Record<string, Record<string, unknown>>) => [
      action,
      actor?.['name'],
      resource?.['type'] === 'member' ? resource['id'] : '',
      metadata,
    ]);
    expect(seen).toEqual([
      ['invitation.revoke', 'deleted user', '', {}],
      ['member.leave', 'deleted user', null, { cause: 'the account was deleted' }],
      ['invitation.create', 'deleted user', '', { email: 'guest@example.com', role: 'member' }],
      ['member.role_update', boss.email, null, { from: 'member', to: 'admin' }],
      ['invitation.accept', 'deleted user', '', { role: 'member' }],
      ['invitation.create', boss.email, '', { role: 'member' }],
    ]);
    expect((await admin.call('GET', '/v1/admin/audit-logs?action=user.purge&limit=1')).body.items).toMatchObject([
      { actor: { type: 'system' }, resource: { id: null } },
    ]);
    expect((await next.call('GET', '/v1/me')).status).toBe(200);
  });

  test('does not wait for the host on which its team still has something', async () => {
    const headers = { authorization: `Bearer ${user.accessToken}`, ...wait };
    const sandbox = (await platform.call('POST', '/v1/sandboxes', { key: '', headers })).body;
    const snapshot = { sandbox_id: sandbox.id, name: 'kept' };
    await platform.call('POST', '/v1/snapshots', { key: '', headers, body: snapshot });
    await deleteMe(user);
    const { teamDeletion } = platform.controlPlane.context;
    const clearedAt = async () => {
      await teamDeletion.runOnce();
      const teams = platform.database.db.selectFrom('teams').select('cleared_at');
      return (await teams.where('id', '=', parseId('team', user.teamId)).executeTakeFirstOrThrow()).cleared_at;
    };
    const deletions = () => platform.agent.calls.filter(({ rpc }) => rpc === 'deleteSnapshot').length;
    platform.agent.failNext('deleteSnapshot', new AppError('host_unavailable', 'it is away'));
    expect(await clearedAt()).toBeNull();
    await purgeIn(15);
    expect((await admin.call('GET', adminUrl(user))).status).toBe(404);
    await expect.poll(clearedAt).not.toBeNull();
    expect(deletions()).toBe(2);
  });

  test('leaves nothing behind: whatever refers to people goes with them, or lets go of them', () => {
    const database = createRequire(import.meta.url).resolve('@aviary/database');
    const schema = readFileSync(path.join(path.dirname(database), '../schema.sql'), 'utf8');
    const tables = [...schema.matchAll(/^CREATE TABLE (\w+) \(\n([\s\S]*?)\n\);/gm)];
    const references = tables.flatMap(([, table, body = '']) =>
      [...body.matchAll(/FOREIGN KEY \((\w+)\) REFERENCES (\w+)\(\w+\)(.*)/g)].map(([, column, to, rule = '']) => ({
        name: `${table}.${column}`,
        to,
        rule,
      })),
    );
    const toPeople = references.filter(({ to }) => to === 'users');
    expect(toPeople.map(({ name }) => name)).toContain('api_keys.created_by');
    expect(toPeople.filter(({ rule }) => !/ON DELETE (CASCADE|SET NULL)/.test(rule))).toEqual([]);
    // A column that names a person without a reference would keep their id.
    const named = tables.flatMap(([, table, body = '']) =>
      [...body.matchAll(/^ {2}(user_id|\w+_by) uuid/gm)].map(([, column]) => `${table}.${column}`),
    );
    expect(named.filter((name) => !references.some((reference) => reference.name === name))).toEqual([]);
  });
});
