import { formatId, must, newId, parseId } from '@aviary/core';
import { type Clock, systemClock } from '@aviary/service-kit';
import { type TOTP, URI } from 'otpauth';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestPlatform, type TestPlatform } from '../test-platform.ts';
import { insertOneTimeToken } from './one-time-token-store.ts';
import {
  accountOf,
  callAnonymously,
  enrolTotp,
  logInAs,
  password,
  signUpAs,
  type TestAccount,
  type TestFactor,
} from './test-account.ts';

const stepMs = 30_000;
let aheadMs = 0;
const clock: Clock = { ...systemClock, now: () => Date.now() + aheadMs };
let platform: TestPlatform;
beforeAll(async () => {
  platform = await startTestPlatform({ overrides: { clock } });
});
afterAll(() => platform[Symbol.asyncDispose]());

interface Enrolled extends TestFactor {
  user: TestAccount;
}

let people = 0;
const newUser = () => signUpAs(platform, `person${++people}@example.com`);
/** What the app shows; a later one each time, as codes are good once. */
const nextCode = (app: TOTP) => {
  aheadMs += stepMs;
  return app.generate({ timestamp: clock.now() });
};
/** A code that is wrong in every period near now. */
const wrongCode = (app: TOTP) => {
  const near = [-2, -1, 0, 1, 2].map((delta) => app.generate({ timestamp: clock.now() + delta * stepMs }));
  return must(
    ['000000', '111111', '222222', '333333', '444444', '555555'].find((code) => !near.includes(code)),
    'six are more than five',
  );
};

async function begin(user: TestAccount): Promise<TOTP> {
  const { status, body } = await user.call('POST', '/v1/me/totp', { password });
  expect(status).toBe(201);
  const app = URI.parse(body.otpauth_uri) as TOTP;
  expect(app.secret.base32).toBe(body.secret);
  return app;
}

async function enrol(): Promise<Enrolled> {
  const user = await newUser();
  aheadMs += stepMs;
  return { user, ...(await enrolTotp(user, clock.now())) };
}

const complete = (challenge: string, code: string) =>
  callAnonymously(platform, '/v1/auth/second-factor', { challenge, code, refresh_token_in: 'body' });

async function challengeOf({ email }: { email: string }): Promise<string> {
  const { status, body } = await logInAs(platform, email);
  expect([status, Object.keys(body).sort()]).toEqual([202, ['challenge', 'challenge_expires_at', 'methods']]);
  return body.challenge;
}

const logInWith = async (user: TestAccount, code: string) => complete(await challengeOf(user), code);

const toldOf = async ({ userId }: TestAccount) =>
  (
    await platform.database.db
      .selectFrom('audit_logs')
      .select(['action', 'metadata', 'actor_name'])
      .where('resource_id', '=', parseId('user', userId))
      .orderBy('position')
      .execute()
  ).slice(1);

describe('setting up an app', () => {
  test('counts once a code of it was shown, and gives ten recovery codes', async () => {
    const user = await newUser();
    const app = await begin(user);
    expect(app).toMatchObject({ issuer: 'Aviary (127.0.0.1)', label: user.email, digits: 6, period: 30 });
    expect((await user.call('GET', '/v1/me')).body.second_factor).toBeNull();
    expect((await logInAs(platform, user.email)).status).toBe(200);
    expect((await user.call('POST', '/v1/me/totp/confirm', { code: wrongCode(app) })).status).toBe(403);
    const { body } = await user.call('POST', '/v1/me/totp/confirm', { code: nextCode(app) });
    expect(new Set(body.recovery_codes).size).toBe(10);
    expect(body.recovery_codes[0]).toMatch(/^([a-z2-7]{4}-){3}[a-z2-7]{4}$/);
    expect((await user.call('GET', '/v1/me')).body.second_factor).toMatchObject({ recovery_codes_left: 10 });
    expect((await logInAs(platform, user.email)).status).toBe(202);
    const told = (await toldOf(user)).map(({ action, actor_name: by }) => [action, by]);
    expect(told).toEqual([
      ['user.log_in', user.email],
      ['user.second_factor_failed', user.email],
      ['user.second_factor_enable', user.email],
    ]);
  });

  test('needs the password, and is not done over a factor that is in use', async () => {
    const user = await newUser();
    for (const body of [undefined, {}, { password: 'not the password' }, { code: '000000' }])
      expect((await user.call('POST', '/v1/me/totp', body)).status).toBe(403);
    expect((await user.call('POST', '/v1/me/totp/confirm', { code: '000000' })).status).toBe(409);
    const { user: enrolled, app } = await enrol();
    expect((await enrolled.call('POST', '/v1/me/totp', { password })).status).toBe(409);
    expect((await enrolled.call('POST', '/v1/me/totp/confirm', { code: nextCode(app) })).status).toBe(409);
  });

  test('again before it is confirmed voids the secret before', async () => {
    const user = await newUser();
    const first = await begin(user);
    const second = await begin(user);
    expect((await user.call('POST', '/v1/me/totp/confirm', { code: nextCode(first) })).status).toBe(403);
    expect((await user.call('POST', '/v1/me/totp/confirm', { code: nextCode(second) })).status).toBe(200);
  });

  test('leaves neither the secret nor a recovery code readable in the store', async () => {
    const { app, recoveryCodes } = await enrol();
    const { db } = platform.database;
    const rows = JSON.stringify([
      await db.selectFrom('totp_factors').selectAll().execute(),
      await db.selectFrom('recovery_codes').selectAll().execute(),
    ]);
    for (const secret of [app.secret.base32, app.secret.hex, ...recoveryCodes, ...recoveryCodes.map(joined)])
      expect(rows.toLowerCase()).not.toContain(secret.toLowerCase());
  });

  test('a secret that is put at another account opens nothing there', async () => {
    const [mine, theirs] = [await enrol(), await enrol()];
    const { db } = platform.database;
    const of = ({ user }: Enrolled) => parseId('user', user.userId);
    const own = await db.selectFrom('totp_factors').select('sealed_secret').where('user_id', '=', of(mine)).execute();
    await db
      .updateTable('totp_factors')
      .set({ sealed_secret: must(own[0], 'enrolled').sealed_secret })
      .where('user_id', '=', of(theirs))
      .execute();
    const challenge = await challengeOf(theirs.user);
    const response = await fetch(`${platform.controlPlane.url}/v1/auth/second-factor`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ challenge, code: nextCode(mine.app) }),
    });
    expect(response.status).toBe(500);
  });
});

const joined = (code: string) => code.replaceAll('-', '');

describe('logging in with a second factor', () => {
  test('takes a code once, of the period before, now or after', async () => {
    const { user, app } = await enrol();
    for (const delta of [-1, 0, 1]) {
      aheadMs += 5 * stepMs;
      const at = (away: number) => app.generate({ timestamp: clock.now() + away * stepMs });
      for (const away of [-2, 2]) expect((await logInWith(user, at(away))).status).toBe(401);
      const code = at(delta);
      const reply = await logInWith(user, code);
      expect(reply.status).toBe(200);
      expect((await accountOf(platform, reply).call('GET', '/v1/me')).status).toBe(200);
      expect((await logInWith(user, code)).status).toBe(401);
    }
    const told = (await toldOf(user)).filter(({ action }) => action === 'user.log_in');
    expect(told.map(({ metadata }) => metadata)).toEqual(Array(3).fill({ method: 'password', second_factor: 'totp' }));
  });

  test('of one code for two log-ins at once one gets a session', async () => {
    const { user, app } = await enrol();
    const challenges = [await challengeOf(user), await challengeOf(user)];
    const code = nextCode(app);
    const replies = await Promise.all(challenges.map((challenge) => complete(challenge, code)));
    expect(replies.map(({ status }) => status).sort()).toEqual([200, 401]);
  });

  test('a challenge is good for one session, for five minutes, and outlives a wrong code', async () => {
    const { user, app } = await enrol();
    const challenge = await challengeOf(user);
    expect((await complete(challenge, wrongCode(app))).body.error).toMatchObject({ details: { field: 'code' } });
    expect((await complete(challenge, nextCode(app))).status).toBe(200);
    const again = await complete(challenge, nextCode(app));
    expect([again.status, again.body.error.details]).toEqual([401, { field: 'challenge' }]);
    const late = await challengeOf(user);
    aheadMs += 5 * 60_000;
    expect((await complete(late, nextCode(app))).body.error.details).toEqual({ field: 'challenge' });
    expect((await complete('avyc_unknown', nextCode(app))).status).toBe(401);
  });

  test('of many log-ins that are half-way the oldest ends', async () => {
    const { user, app } = await enrol();
    const challenges = [];
    for (let i = 0; i < 21; i++) {
      aheadMs += 1;
      challenges.push(await challengeOf(user));
    }
    const [first = '', second = ''] = challenges;
    expect((await complete(first, nextCode(app))).body.error.details).toEqual({ field: 'challenge' });
    expect((await complete(second, nextCode(app))).status).toBe(200);
  });

  test('a challenge is its account’s alone', async () => {
    const [mine, theirs] = [await enrol(), await enrol()];
    const challenge = await challengeOf(theirs.user);
    expect((await complete(challenge, nextCode(mine.app))).status).toBe(401);
    expect((await complete(challenge, must(mine.recoveryCodes[0], 'ten'))).status).toBe(401);
  });

  test('a recovery code stands in once, however it is typed', async () => {
    const { user, recoveryCodes } = await enrol();
    const [first = '', second = ''] = recoveryCodes;
    const typed = ` ${joined(first).toUpperCase()} `;
    const replies = await Promise.all(
      [await challengeOf(user), await challengeOf(user)].map((one) => complete(one, typed)),
    );
    expect(replies.map(({ status }) => status).sort()).toEqual([200, 401]);
    expect((await logInWith(user, first)).status).toBe(401);
    expect((await logInWith(user, second)).status).toBe(200);
    expect((await user.call('GET', '/v1/me')).body.second_factor.recovery_codes_left).toBe(8);
    const used = (await toldOf(user)).filter(({ action }) => action === 'user.recovery_code_use');
    expect(used).toHaveLength(2);
  });

  test('after ten wrong codes none is taken for a while, of whatever kind, on no replica', async () => {
    const { user, app, recoveryCodes } = await enrol();
    const challenge = await challengeOf(user);
    for (let attempt = 0; attempt < 10; attempt++) expect((await complete(challenge, wrongCode(app))).status).toBe(401);
    const refused = await complete(challenge, app.generate({ timestamp: clock.now() + stepMs }));
    expect([refused.status, Number(refused.headers.get('retry-after'))]).toEqual([429, expect.any(Number)]);
    const replica = await platform.startReplica({ clock });
    const elsewhere = await fetch(`${replica.url}/v1/auth/second-factor`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ challenge, code: recoveryCodes[0] }),
    });
    expect(elsewhere.status).toBe(429);
    expect((await toldOf(user)).filter(({ action }) => action === 'user.second_factor_failed')).toHaveLength(10);
    aheadMs += 15 * 60_000;
    expect((await logInWith(user, nextCode(app))).status).toBe(200);
  });

  test('one who is deactivated or deleted between the steps gets no session, nor with the challenge later', async () => {
    const { user, app } = await enrol();
    const challenge = await challengeOf(user);
    const admin = await platform.signIn({ isAdmin: true });
    // Half-way as it would be, had the step before been a moment later.
    const { db } = platform.database;
    const ownId = parseId('user', user.userId);
    for (const [status, answered] of [
      ['deactivated', 403],
      ['deleted', 401],
    ] as const) {
      await db.updateTable('users').set({ status }).where('id', '=', ownId).execute();
      expect((await complete(challenge, nextCode(app))).status).toBe(answered);
    }
    await db.updateTable('users').set({ status: 'active' }).where('id', '=', ownId).execute();
    for (const active of [false, true])
      expect((await admin.call('PUT', `/v1/admin/users/${user.userId}/active`, { body: { active } })).status).toBe(204);
    expect((await complete(challenge, nextCode(app))).status).toBe(401);
  });

  test('a password that is changed ends what was half-way, and needs a code to be changed', async () => {
    const { user, app } = await enrol();
    const challenge = await challengeOf(user);
    const change = (code?: string) =>
      user.call('POST', '/v1/me/password', {
        current_password: password,
        new_password: 'another password',
        ...(code === undefined ? {} : { code }),
      });
    expect((await change()).body.error).toMatchObject({ code: 'forbidden', details: { field: 'code' } });
    expect((await change(wrongCode(app))).status).toBe(403);
    expect((await change(nextCode(app))).status).toBe(204);
    expect((await complete(challenge, nextCode(app))).status).toBe(401);
    expect((await logInAs(platform, user.email, 'another password')).status).toBe(202);
  });
});

describe('a second factor in use', () => {
  test.each(['password', 'code', 'recovery code'])(
    'is turned off by the %s, and then asked for no more',
    async (by) => {
      const { user, app, recoveryCodes } = await enrol();
      const challenge = await challengeOf(user);
      const disable = (body?: object) => user.call('POST', '/v1/me/totp/disable', body);
      for (const body of [undefined, { password: 'wrong password' }, { code: wrongCode(app) }])
        expect((await disable(body)).status).toBe(403);
      const proof = by === 'password' ? { password } : { code: by === 'code' ? nextCode(app) : recoveryCodes[3] };
      expect((await disable(proof)).status).toBe(204);
      expect((await disable({ password })).status).toBe(409);
      expect((await user.call('GET', '/v1/me')).body.second_factor).toBeNull();
      expect((await logInAs(platform, user.email)).status).toBe(200);
      expect((await complete(challenge, must(recoveryCodes[4], 'ten'))).status).toBe(401);
      expect((await toldOf(user)).map(({ action }) => action)).toContain('user.second_factor_disable');
    },
  );

  test('is taken away by an administrator from one who has lost it, and by nobody else', async () => {
    const { user } = await enrol();
    const url = `/v1/admin/users/${user.userId}/second-factor`;
    expect((await user.call('DELETE', url)).status).toBe(403);
    const admin = await platform.signIn({ isAdmin: true });
    const list = async () => (await admin.call('GET', `/v1/admin/users?search=${user.email}`)).body.items;
    expect(await list()).toMatchObject([{ has_second_factor: true }]);
    expect((await admin.call('DELETE', url)).status).toBe(204);
    expect(await list()).toMatchObject([{ has_second_factor: false }]);
    expect((await admin.call('DELETE', url)).status).toBe(204);
    expect((await logInAs(platform, user.email)).status).toBe(200);
    const told = (await toldOf(user)).filter(({ action }) => action === 'user.second_factor_disable');
    expect(told.map(({ actor_name }) => actor_name)).toEqual([admin.email]);
    expect((await admin.call('DELETE', `/v1/admin/users/usr-${admin.userId}/second-factor`)).status).toBe(409);
    const nobody = `/v1/admin/users/${formatId('user', newId('user'))}/second-factor`;
    expect((await admin.call('DELETE', nobody)).status).toBe(404);
  });

  test('stays through a password reset', async () => {
    const { user, app } = await enrol();
    const now = new Date(clock.now());
    const token = await insertOneTimeToken(platform.database.db, {
      purpose: 'password_reset',
      userId: parseId('user', user.userId),
      isMailed: true,
      now,
      expiresAt: new Date(now.getTime() + 60_000),
    });
    const challenge = await challengeOf(user);
    const body = { token, new_password: 'another password' };
    expect((await callAnonymously(platform, '/v1/me/password/reset/confirm', body)).status).toBe(204);
    expect((await complete(challenge, nextCode(app))).status).toBe(401);
    expect((await logInAs(platform, user.email, 'another password')).status).toBe(202);
  });

  test('has its recovery codes made anew, and the old ones are void', async () => {
    const { user, app, recoveryCodes } = await enrol();
    expect((await user.call('POST', '/v1/me/recovery-codes')).status).toBe(403);
    const { status, body } = await user.call('POST', '/v1/me/recovery-codes', { code: nextCode(app) });
    expect([status, body.recovery_codes.length]).toEqual([200, 10]);
    expect((await logInWith(user, must(recoveryCodes[0], 'ten'))).status).toBe(401);
    expect((await logInWith(user, body.recovery_codes[0])).status).toBe(200);
    const other = await newUser();
    expect((await other.call('POST', '/v1/me/recovery-codes', { password })).status).toBe(409);
  });
});
