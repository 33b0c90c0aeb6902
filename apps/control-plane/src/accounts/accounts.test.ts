import { parseId } from '@aviary/core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTestPlatform, type TestPlatform } from '../test-platform.ts';
import { accountOf, callAnonymously, logInAs, password, signUpAs } from './test-account.ts';

let platform: TestPlatform;
beforeAll(async () => {
  platform = await startTestPlatform();
});
afterAll(() => platform[Symbol.asyncDispose]());

const post = (url: string, body: unknown, headers = {}) => callAnonymously(platform, url, body, headers);
const actionsOn = async (userId: string) => {
  const rows = await platform.database.db
    .selectFrom('audit_logs')
    .select(['action', 'actor_name'])
    .where('resource_id', '=', parseId('user', userId))
    .orderBy('id')
    .execute();
  return rows.map(({ action }) => action);
};

test('who signs up has an account, a team of their own and a session', async () => {
  const reply = await post('/v1/auth/signup', {
    email: ' Ada@Example.com ',
    password,
    name: 'Ada',
    refresh_token_in: 'body',
  });
  expect(reply.status).toBe(201);
  expect(reply.headers.get('set-cookie')).toBeNull();
  expect(reply.body).toMatchObject({
    refresh_token: expect.stringMatching(/^avys_[0-9a-f]{40}$/),
    user: { email: 'Ada@Example.com', name: 'Ada', is_admin: false, email_verified: false },
    team: { name: "Ada's team", role: 'owner' },
  });
  const ada = accountOf(platform, reply);
  expect((await ada.call('GET', '/v1/me')).body).toMatchObject({
    id: ada.userId,
    has_password: true,
    team: { id: ada.teamId },
  });
  expect((await ada.call('GET', '/v1/sandboxes')).body).toEqual({ items: [], next_cursor: null });
  const team = await platform.database.db
    .selectFrom('teams')
    .select('slug')
    .where('id', '=', parseId('team', ada.teamId))
    .executeTakeFirstOrThrow();
  expect(team.slug).toMatch(/^[0-9a-f]{12}$/);
  expect(await actionsOn(ada.userId)).toEqual(['user.sign_up']);
  const user = await platform.database.db
    .selectFrom('users')
    .select('password_hash')
    .where('id', '=', parseId('user', ada.userId))
    .executeTakeFirstOrThrow();
  expect(user.password_hash).toMatch(/^\$argon2id\$v=19\$m=64,t=1,p=1\$/);
});

test('of two who sign up with one address at once, in whatever letters, one gets it', async () => {
  const replies = await Promise.all(
    ['grace@example.com', 'GRACE@example.com', 'ｇrace@example.com '].map((email) =>
      post('/v1/auth/signup', { email, password }),
    ),
  );
  expect(replies.map(({ status }) => status).sort()).toEqual([201, 409, 409]);
  const teams = await platform.database.db
    .selectFrom('teams')
    .select('id')
    .where('name', 'ilike', "grace's team")
    .execute();
  expect(teams).toHaveLength(1);
});

test.each([
  [{ email: 'x', password }, 'email'],
  [{ email: 'a@b.c', password: 'seven77' }, 'password'],
  [{ email: 'a@b.c', password: 'x'.repeat(257) }, 'password'],
  [{ email: 'a@b.c', password, is_admin: true }, 'is_admin'],
  [{ email: 'a@b.c', password, name: 'a\nb' }, 'name'],
  [{ email: ['a@b.c'], password }, 'email'],
])('a sign-up that cannot be is refused: %#', async (body, field) => {
  const { status, body: answer } = await post('/v1/auth/signup', body);
  expect([status, answer.error.details]).toEqual([400, { field }]);
});

test('a password of a megabyte is not even read', async () => {
  const { status } = await post('/v1/auth/signup', { email: 'a@b.c', password: 'x'.repeat(2 ** 20) });
  expect(status).toBe(413);
});

test('a password is any characters, and one however they are composed', async () => {
  const email = 'unicode@example.com';
  const composed = 'pässwörter🐦\u0000\u3000é';
  expect((await post('/v1/auth/signup', { email, password: composed })).status).toBe(201);
  expect((await logInAs(platform, email, composed.normalize('NFD'))).status).toBe(200);
  expect((await logInAs(platform, email, composed.slice(0, -1))).status).toBe(401);
});

test('a wrong password and an address that is nobody’s are answered alike', async () => {
  await signUpAs(platform, 'known@example.com');
  const wrong = await logInAs(platform, 'known@example.com', 'not the password');
  const unknown = await logInAs(platform, 'unknown@example.com', 'not the password');
  const { request_id: _, ...error } = wrong.body.error;
  expect([wrong.status, unknown.status]).toEqual([401, 401]);
  expect(unknown.body.error).toMatchObject(error);
});

test('many attempts at one address from one place are throttled, whether it is anybody’s or not', async () => {
  await signUpAs(platform, 'target@example.com');
  for (const email of ['target@example.com', 'nobody@example.com']) {
    const statuses = [];
    for (let attempt = 0; attempt < 11; attempt++) statuses.push((await logInAs(platform, email, 'guess')).status);
    expect(statuses).toEqual([...Array(10).fill(401), 429]);
    const refused = await logInAs(platform, email);
    expect([refused.status, Number(refused.headers.get('retry-after'))]).toEqual([429, expect.any(Number)]);
  }
});

test('an account that is deactivated opens to nobody, and tells so only to who has its password', async () => {
  const user = await signUpAs(platform, 'gone@example.com');
  await platform.database.db
    .updateTable('users')
    .set({ status: 'deactivated' })
    .where('email_key', '=', user.email)
    .execute();
  expect((await user.call('GET', '/v1/me')).status).toBe(403);
  expect((await user.call('GET', '/v1/sandboxes')).status).toBe(403);
  expect((await post('/v1/auth/refresh', { refresh_token: user.refreshToken })).status).toBe(403);
  expect((await logInAs(platform, user.email, 'wrong password')).status).toBe(401);
  expect((await logInAs(platform, user.email)).status).toBe(403);
});

test('a name can be changed, and nothing else by it', async () => {
  const user = await signUpAs(platform, 'rename@example.com');
  expect((await user.call('PATCH', '/v1/me', { name: ' New ' })).body).toMatchObject({ name: 'New' });
  expect((await user.call('PATCH', '/v1/me', { name: 'x', is_admin: true })).status).toBe(400);
  expect((await user.call('PATCH', '/v1/me', { name: '   ' })).status).toBe(400);
  expect(await actionsOn(user.userId)).toEqual(['user.sign_up', 'user.update']);
});

test('a changed password needs the old one and ends all other sessions', async () => {
  const user = await signUpAs(platform, 'change@example.com');
  const other = accountOf(platform, await logInAs(platform, user.email));
  const next = 'another password';
  expect((await user.call('POST', '/v1/me/password', { new_password: next })).status).toBe(403);
  expect((await user.call('POST', '/v1/me/password', { current_password: next, new_password: next })).status).toBe(403);
  expect((await actionsOn(user.userId)).filter((action) => action === 'user.password_refused')).toHaveLength(1);
  expect((await user.call('POST', '/v1/me/password', { current_password: password, new_password: next })).status).toBe(
    204,
  );
  expect([(await user.call('GET', '/v1/me')).status, (await other.call('GET', '/v1/me')).status]).toEqual([200, 401]);
  expect((await logInAs(platform, user.email)).status).toBe(401);
  expect((await logInAs(platform, user.email, next)).status).toBe(200);
});

test('one who has no password may set one', async () => {
  const user = await signUpAs(platform, 'none@example.com');
  await platform.database.db
    .updateTable('users')
    .set({ password_hash: null })
    .where('email_key', '=', user.email)
    .execute();
  expect((await logInAs(platform, user.email)).status).toBe(401);
  expect((await user.call('GET', '/v1/me')).body.has_password).toBe(false);
  expect((await user.call('POST', '/v1/me/password', { new_password: password })).status).toBe(204);
  expect((await logInAs(platform, user.email)).status).toBe(200);
});

test('a hash of a cost that is no longer ours is made anew at the next log-in', async () => {
  const user = await signUpAs(platform, 'old@example.com');
  const { hasher } = platform.controlPlane.context.accounts;
  const dearer = new (hasher.constructor as typeof import('./password-hash.ts').PasswordHasher)({
    memoryKib: 128,
    passes: 1,
  });
  const rows = platform.database.db
    .updateTable('users')
    .set({ password_hash: await dearer.hash(password) })
    .where('email_key', '=', user.email);
  await rows.execute();
  expect((await logInAs(platform, user.email)).status).toBe(200);
  const { password_hash: hash } = await platform.database.db
    .selectFrom('users')
    .select('password_hash')
    .where('email_key', '=', user.email)
    .executeTakeFirstOrThrow();
  expect(hash).toMatch(/m=64,/);
});
