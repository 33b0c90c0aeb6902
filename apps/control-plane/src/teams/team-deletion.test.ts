import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { AppError, formatId, type TeamId } from '@aviary/core';
import { expect, test } from 'vitest';
import { startTestPlatform, type TestPlatform } from '../test-platform.ts';

const now = { teamDeletion: { lateMs: 0, intervalMs: 3600_000 } };
const wait = { headers: { prefer: 'wait=20' } };

const isCleared = async ({ database }: TestPlatform, teamId: TeamId) => {
  const row = await database.db
    .selectFrom('teams')
    .select('cleared_at')
    .where('id', '=', teamId)
    .executeTakeFirstOrThrow();
  return row.cleared_at !== null;
};

/** Rounds until nothing is left. */
async function clear(platform: TestPlatform, teamId: TeamId): Promise<void> {
  await expect
    .poll(async () => {
      await platform.controlPlane.context.teamDeletion.runOnce();
      return isCleared(platform, teamId);
    })
    .toBe(true);
}

test('every table of teams is answered for by a module', async () => {
  await using platform = await startTestPlatform();
  const schema = readFileSync(
    path.join(path.dirname(createRequire(import.meta.url).resolve('@aviary/database')), '../schema.sql'),
    'utf8',
  );
  const tables = [...schema.matchAll(/^CREATE TABLE (\w+) \(\n([\s\S]*?)\n\);/gm)];
  const ofTeams = tables.filter(([, , columns = '']) => /^ {2}team_id /m.test(columns)).map(([, name]) => name);
  expect(ofTeams).toContain('sandboxes');
  const answered = platform.controlPlane.context.teamDeletion.tables;
  expect(ofTeams.filter((name = '') => !answered.includes(name))).toEqual([]);
  expect(new Set(answered).size).toBe(answered.length);
});

test('a deleted team is gone at once, and then all that it had on hosts', async () => {
  await using platform = await startTestPlatform({ overrides: now });
  const owner = await platform.signIn();
  const member = await platform.signIn({ teamId: owner.teamId, role: 'member' });
  const url = `/v1/teams/${formatId('team', owner.teamId)}`;
  const running = (await owner.call('POST', '/v1/sandboxes', wait)).body;
  const paused = (await owner.call('POST', '/v1/sandboxes', wait)).body;
  await owner.call('POST', `/v1/sandboxes/${paused.id}/pause`, { body: {}, ...wait });
  const snapshot = await owner.call('POST', '/v1/snapshots', {
    body: { sandbox_id: running.id, name: 'kept' },
    ...wait,
  });
  expect(snapshot.status).toBe(201);
  const others = (await platform.call('POST', '/v1/sandboxes', wait)).body;
  const { key } = (await owner.call('POST', '/v1/api-keys', { body: { name: 'k' } })).body;
  const { token } = (await owner.call('POST', `${url}/members`, { body: { email: 'guest@example.com' } })).body;

  expect((await owner.call('DELETE', url)).status).toBe(204);
  expect((await platform.call('GET', '/v1/sandboxes', { key })).status).toBe(401);
  for (const person of [owner, member]) {
    expect((await person.call('GET', url)).status).toBe(404);
    expect((await person.call('GET', '/v1/sandboxes')).status).toBe(403);
    expect((await person.call('GET', '/v1/teams')).body.items).toEqual([]);
  }
  const guest = await platform.signIn({ email: 'guest@example.com' });
  expect((await guest.call('POST', '/v1/invitations/accept', { body: { token } })).status).toBe(404);

  await clear(platform, owner.teamId);
  const { calls } = platform.agent;
  expect(calls.filter(({ rpc }) => rpc === 'destroySandbox')).toHaveLength(2);
  expect(calls.filter(({ rpc }) => rpc === 'deleteSnapshot')).toHaveLength(1);
  expect((await platform.call('GET', `/v1/sandboxes/${others.id}`)).body.status).toBe('running');
  const { slug } = await platform.database.db
    .selectFrom('teams')
    .select('slug')
    .where('id', '=', owner.teamId)
    .executeTakeFirstOrThrow();
  expect(slug).toMatch(/^[0-9a-f]{12}$/);
});

test('a host that is away is waited for: its snapshots go when it is back', async () => {
  await using platform = await startTestPlatform({ overrides: now });
  const owner = await platform.signIn();
  const sandbox = (await owner.call('POST', '/v1/sandboxes', wait)).body;
  await owner.call('POST', '/v1/snapshots', { body: { sandbox_id: sandbox.id, name: 'kept' }, ...wait });
  platform.agent.failNext('deleteSnapshot', new AppError('integrity', 'the disk is broken for now'));
  await owner.call('DELETE', `/v1/teams/${formatId('team', owner.teamId)}`);
  const { teamDeletion } = platform.controlPlane.context;
  await teamDeletion.runOnce();
  const deletions = () => platform.agent.calls.filter(({ rpc }) => rpc === 'deleteSnapshot').length;
  await expect.poll(deletions).toBe(1);
  expect(await isCleared(platform, owner.teamId)).toBe(false);
  await clear(platform, owner.teamId);
  expect(deletions()).toBe(2);
});

test('what a request that was let in before adds late is cleared away as well', async () => {
  await using platform = await startTestPlatform({ overrides: { teamDeletion: { intervalMs: 3600_000 } } });
  const owner = await platform.signIn();
  await owner.call('DELETE', `/v1/teams/${formatId('team', owner.teamId)}`);
  await platform.controlPlane.context.teamDeletion.runOnce();
  expect(await isCleared(platform, owner.teamId)).toBe(false);
});
