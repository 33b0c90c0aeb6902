import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTestPlatform, type TestPlatform } from '../test-platform.ts';

let platform: TestPlatform;
beforeAll(async () => {
  platform = await startTestPlatform();
});
afterAll(() => platform[Symbol.asyncDispose]());

test('a member calls what a key of the team calls, and sees what it sees', async () => {
  const created = await platform.call('POST', '/v1/sandboxes', { headers: { prefer: 'wait=20' } });
  const member = await platform.signIn({ role: 'member', teamId: platform.teamId });
  expect((await member.call('GET', `/v1/sandboxes/${created.body.id}`)).status).toBe(200);
  const stranger = await platform.signIn();
  expect((await stranger.call('GET', `/v1/sandboxes/${created.body.id}`)).status).toBe(404);
});

test('what a token says is looked up: a session that was revoked and a member who left are refused at once', async () => {
  const person = await platform.signIn({ role: 'admin' });
  const { db } = platform.database;
  await db.deleteFrom('team_members').where('user_id', '=', person.userId).execute();
  expect((await person.call('GET', '/v1/sandboxes')).status).toBe(403);
  await db.updateTable('sessions').set({ revoked_at: new Date() }).where('id', '=', person.sessionId).execute();
  expect((await person.call('GET', '/v1/sandboxes')).status).toBe(401);
});
