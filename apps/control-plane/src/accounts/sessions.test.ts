import { createHmac } from 'node:crypto';
import { type Route, routes } from '@aviary/api-contract';
import { formatId, newId, parseId, platformTeamId, uuidv7 } from '@aviary/core';
import { type Clock, systemClock } from '@aviary/service-kit';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestPlatform, type TestPlatform } from '../test-platform.ts';
import { deleteEndedSessions } from './session-store.ts';
import { accountOf, callAnonymously, logInAs, password, signUpAs, type TestAccount } from './test-account.ts';

// Days pass at once: nothing that sleeps is of interest here.
let aheadMs = 0;
const clock: Clock = { ...systemClock, now: () => Date.now() + aheadMs };
const pass = (ms: number) => {
  aheadMs += ms;
};
let platform: TestPlatform;
beforeAll(async () => {
  platform = await startTestPlatform({ overrides: { clock } });
});
afterAll(() => platform[Symbol.asyncDispose]());

const post = (url: string, body: unknown, headers = {}) => callAnonymously(platform, url, body, headers);
const refresh = (token: string) => post('/v1/auth/refresh', { refresh_token: token });
const bearer = (token: string, url = '/v1/me') =>
  platform.call('GET', url, { key: '', headers: { authorization: `Bearer ${token}` } });
const thefts = async (userId: string) =>
  (
    await platform.database.db
      .selectFrom('audit_logs')
      .select('id')
      .where('action', '=', 'user.session_theft')
      .where('resource_id', '=', parseId('user', userId))
      .execute()
  ).length;
let people = 0;
const newUser = () => signUpAs(platform, `person${++people}@example.com`);

test('a refresh token is good once; used again later, it ends the session of both who have it', async () => {
  const user = await newUser();
  const next = await refresh(user.refreshToken);
  expect([next.status, next.body.session_id]).toEqual([200, user.sessionId]);
  expect((await bearer(next.body.access_token)).status).toBe(200);
  pass(11_000);
  expect((await refresh(user.refreshToken)).status).toBe(401);
  expect((await bearer(next.body.access_token)).status).toBe(401);
  expect((await refresh(next.body.refresh_token)).status).toBe(401);
  expect((await refresh(user.refreshToken)).status).toBe(401);
  expect(await thefts(user.userId)).toBe(1);
});

test('of refreshes at once one gets the next token; the others are told to try again, and no session ends', async () => {
  const user = await newUser();
  const replies = await Promise.all(Array.from({ length: 5 }, () => refresh(user.refreshToken)));
  expect(replies.map(({ status }) => status).sort()).toEqual([200, 409, 409, 409, 409]);
  for (const { status, body } of replies) if (status !== 200) expect(Object.keys(body)).toEqual(['error']);
  const won = replies.find(({ status }) => status === 200);
  expect((await refresh(won?.body.refresh_token)).status).toBe(200);
  expect(await thefts(user.userId)).toBe(0);
});

test('a session ends thirty days after its last refresh, and ninety after its log-in', async () => {
  const user = await newUser();
  const day = 24 * 3600 * 1000;
  let token = user.refreshToken;
  for (let passed = 0; passed < 75; passed += 25) {
    pass(25 * day);
    const { status, body } = await refresh(token);
    expect(status).toBe(200);
    token = body.refresh_token;
  }
  pass(16 * day);
  expect((await refresh(token)).status).toBe(401);
  const idle = await newUser();
  pass(31 * day);
  expect((await refresh(idle.refreshToken)).status).toBe(401);
});

describe('on the next request', () => {
  test('a session that was ended is over', async () => {
    const user = await newUser();
    const other = accountOf(platform, await logInAs(platform, user.email));
    const { body } = await user.call('GET', '/v1/me/sessions');
    expect(body.items.map((item: { id: string; is_current: boolean }) => [item.id, item.is_current])).toEqual(
      expect.arrayContaining([
        [other.sessionId, false],
        [user.sessionId, true],
      ]),
    );
    expect((await user.call('DELETE', `/v1/me/sessions/${other.sessionId}`)).status).toBe(204);
    expect((await other.call('GET', '/v1/me')).status).toBe(401);
    expect((await refresh(other.refreshToken)).status).toBe(401);
    expect((await user.call('DELETE', `/v1/me/sessions/${other.sessionId}`)).status).toBe(404);
    const stranger = await newUser();
    expect((await stranger.call('DELETE', `/v1/me/sessions/${user.sessionId}`)).status).toBe(404);
    expect((await user.call('GET', '/v1/me')).status).toBe(200);
  });

  test('who logged out is out, and may do so again', async () => {
    const user = await newUser();
    for (let times = 0; times < 2; times++)
      expect((await post('/v1/auth/logout', { refresh_token: user.refreshToken })).status).toBe(204);
    expect((await user.call('GET', '/v1/me')).status).toBe(401);
  });

  test('who logged out everywhere is out everywhere', async () => {
    const user = await newUser();
    const other = accountOf(platform, await logInAs(platform, user.email));
    expect((await user.call('POST', '/v1/auth/logout-all')).status).toBe(204);
    expect([(await user.call('GET', '/v1/me')).status, (await other.call('GET', '/v1/me')).status]).toEqual([401, 401]);
  });

  test('who was removed from a team is out of it, with the token that they have', async () => {
    const [user, owner] = [await newUser(), await newUser()];
    await join(user, owner.teamId);
    const switched = await user.call('POST', '/v1/auth/switch-team', { team_id: owner.teamId });
    expect(switched.body.team).toMatchObject({ id: owner.teamId, role: 'member' });
    expect((await bearer(switched.body.access_token, '/v1/sandboxes')).status).toBe(200);
    await platform.database.db
      .deleteFrom('team_members')
      .where('user_id', '=', parseId('user', user.userId))
      .where('role', '=', 'member')
      .execute();
    expect((await bearer(switched.body.access_token, '/v1/sandboxes')).status).toBe(403);
    expect((await bearer(switched.body.access_token)).body.team).toBeNull();
    expect((await refresh(user.refreshToken)).body.team).toMatchObject({ id: user.teamId });
  });
});

test('a session stays in the team that it was switched to, and switches to no other’s', async () => {
  const [user, owner, stranger] = [await newUser(), await newUser(), await newUser()];
  await join(user, owner.teamId);
  const switchTo = (team_id: string) => user.call('POST', '/v1/auth/switch-team', { team_id });
  expect((await switchTo(owner.teamId)).status).toBe(200);
  const refreshed = await refresh(user.refreshToken);
  expect(refreshed.body.team).toMatchObject({ id: owner.teamId });
  const [foreign, missing] = [await switchTo(stranger.teamId), await switchTo(formatId('team', newId('team')))];
  expect([foreign.status, missing.status]).toEqual([404, 404]);
  expect(foreign.body.error.message).toBe(missing.body.error.message);
  await platform.database.db
    .updateTable('teams')
    .set({ deleted_at: new Date() })
    .where('id', '=', parseId('team', owner.teamId))
    .execute();
  expect((await switchTo(owner.teamId)).status).toBe(404);
  expect((await bearer(refreshed.body.access_token, '/v1/sandboxes')).status).toBe(403);
});

test('one user has at most a hundred sessions: a further one ends the oldest', async () => {
  const user = await newUser();
  const now = clock.now();
  const rows = Array.from({ length: 99 }, (_, index) => ({
    id: newId('session'),
    user_id: parseId('user', user.userId),
    created_at: new Date(now + index),
    expires_at: new Date(now + 3_600_000),
    revoke_reason: null,
    team_id: null,
  }));
  await platform.database.db.insertInto('sessions').values(rows).execute();
  pass(1_000);
  const next = accountOf(platform, await logInAs(platform, user.email));
  expect((await user.call('GET', '/v1/me')).status).toBe(401);
  const { body } = await next.call('GET', '/v1/me/sessions');
  expect(body.items).toHaveLength(100);
  expect(body.items[0]).toMatchObject({ id: next.sessionId, is_current: true });
});

describe('the cookie', () => {
  const cookieOf = (reply: { headers: Headers }) => reply.headers.get('set-cookie') ?? '';
  const logIn = async (headers = {}) => {
    const { email } = await newUser();
    return post('/v1/auth/login', { email, password }, headers);
  };

  test('is for this site’s own pages alone', async () => {
    const reply = await logIn();
    expect(reply.body.refresh_token).toBeUndefined();
    expect(cookieOf(reply)).toMatch(
      /^aviary_refresh=avys_[0-9a-f]{40}; Path=\/v1\/auth; Max-Age=\d+; HttpOnly; SameSite=Strict$/,
    );
    const cookie = cookieOf(reply).split(';', 1)[0];
    const ask = (url: string, headers: object) => post(url, {}, { cookie, ...headers });
    const own = new URL(platform.controlPlane.url).origin;
    for (const url of ['/v1/auth/refresh', '/v1/auth/logout']) {
      for (const headers of [
        {},
        { origin: 'https://evil.example' },
        { origin: 'null' },
        { 'sec-fetch-site': 'cross-site' },
      ])
        expect([url, headers, (await ask(url, headers)).status]).toEqual([url, headers, 403]);
    }
    const next = await ask('/v1/auth/refresh', { origin: own });
    expect([next.status, next.body.refresh_token]).toEqual([200, undefined]);
    expect(cookieOf(next)).not.toBe(cookieOf(reply));
    const out = await post('/v1/auth/logout', {}, { cookie: cookieOf(next).split(';', 1)[0], origin: own });
    expect([out.status, cookieOf(out)]).toEqual([204, expect.stringMatching(/^aviary_refresh=; .*Max-Age=0/)]);
    expect((await bearer(next.body.access_token)).status).toBe(401);
    expect((await ask('/v1/auth/refresh', { cookie: '' })).status).toBe(401);
  });

  test('is given to no page of another site, which would sign its visitors in as somebody else', async () => {
    const open = Object.values<Route>(routes).filter(({ isForOwnPages }) => isForOwnPages);
    expect(open.length).toBeGreaterThan(0);
    for (const { path } of open)
      for (const headers of [{ origin: 'https://evil.example' }, { 'sec-fetch-site': 'cross-site' }]) {
        const { status, body } = await post(path.replaceAll(/\{\w+\}/g, 'x'), {}, headers);
        expect([path, status, body.error.details]).toEqual([path, 403, { header: 'origin' }]);
      }
    expect((await logIn({ origin: new URL(platform.controlPlane.url).origin })).status).toBe(200);
  });
});

describe('a token that we did not sign for this', () => {
  const claims = async () => {
    const user = await newUser();
    const [, payload = ''] = user.accessToken.split('.');
    return { user, payload: JSON.parse(Buffer.from(payload, 'base64url').toString()) };
  };
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const refused = async (token: string) => expect((await bearer(token)).status).toBe(401);

  test('is refused, whatever algorithm it names', async () => {
    const { user, payload } = await claims();
    const [header = '', body = '', signature = ''] = user.accessToken.split('.');
    await refused(`${encode({ alg: 'none' })}.${body}.`);
    await refused(`${encode({ alg: 'None', typ: 'JWT' })}.${body}.${signature}`);
    await refused(`${header}.${encode({ ...payload, is_admin: true })}.${signature}`);
    const key = platform.controlPlane.context.signingKey.publicJwk;
    for (const secret of [JSON.stringify(key), String(key.x), Buffer.from(String(key.x), 'base64url')]) {
      const signed = `${encode({ alg: 'HS256' })}.${body}`;
      await refused(`${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`);
    }
  });

  test('is refused, whoever’s key it brings along', async () => {
    const { payload } = await claims();
    const pair = await generateKeyPair('EdDSA', { crv: 'Ed25519', extractable: true });
    const jwk = await exportJWK(pair.publicKey);
    for (const header of [
      { kid: uuidv7() },
      { kid: platform.controlPlane.context.signingKey.publicJwk.kid ?? '' },
      { jwk },
    ])
      await refused(await new SignJWT(payload).setProtectedHeader({ alg: 'EdDSA', ...header }).sign(pair.privateKey));
  });

  test('is refused for another issuer or audience, or when its time is over', async () => {
    const { user } = await claims();
    const host = await platform.controlPlane.context.signingKey.signHostToken(newId('host'));
    await refused(host.token);
    await refused(platform.host.token);
    pass(15 * 60_000 + 31_000);
    await refused(user.accessToken);
    await refused('');
    await refused('x.y.z');
  });

  test('decides nothing by what it says of role and rights', async () => {
    const { user } = await claims();
    const forged = await platform.controlPlane.context.signingKey.signAccessToken(
      { userId: parseId('user', user.userId), sessionId: parseId('session', user.sessionId), teamId: platformTeamId },
      { role: 'owner', isAdmin: true },
    );
    expect((await bearer(forged.token, '/v1/sandboxes')).status).toBe(403);
    expect((await bearer(forged.token)).body).toMatchObject({ is_admin: false, team: null });
  });
});

test('what ended long ago is removed, and nothing that may still be used', async () => {
  const { db } = platform.database;
  const kept = await newUser();
  const gone = await newUser();
  await gone.call('POST', '/v1/auth/logout-all');
  const ids = async () =>
    (await db.selectFrom('sessions').select('id').execute()).map(({ id }) => formatId('session', id));
  await deleteEndedSessions(db, new Date(clock.now() - 1_000));
  expect(await ids()).toEqual(expect.arrayContaining([kept.sessionId, gone.sessionId]));
  await deleteEndedSessions(db, new Date(clock.now() + 1_000));
  expect(await ids()).toContain(kept.sessionId);
  expect(await ids()).not.toContain(gone.sessionId);
});

async function join(user: TestAccount, teamId: string): Promise<void> {
  await platform.database.db
    .insertInto('team_members')
    .values({ team_id: parseId('team', teamId), user_id: parseId('user', user.userId), role: 'member' })
    .execute();
}
