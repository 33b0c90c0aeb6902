import { parseId } from '@aviary/core';
import { type Clock, systemClock } from '@aviary/service-kit';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { insertOneTimeToken } from '../accounts/one-time-token-store.ts';
import {
  accountOf,
  callAnonymously,
  enrolTotp,
  logInAs,
  password,
  signUpAs,
  type TestAccount,
} from '../accounts/test-account.ts';
import { type Reply, startTestPlatform, type TestPlatform } from '../test-platform.ts';
import { passkeySite } from './passkey-site.ts';
import { type Tampering, TestAuthenticator } from './test-authenticator.ts';

let aheadMs = 0;
const clock: Clock = { ...systemClock, now: () => Date.now() + aheadMs };
let platform: TestPlatform;
let origin: string;
beforeAll(async () => {
  platform = await startTestPlatform({ overrides: { clock } });
  origin = passkeySite(platform.controlPlane.context.accounts.settings.publicUrl).origin;
});
afterAll(() => platform[Symbol.asyncDispose]());

let people = 0;
const newUser = () => signUpAs(platform, `person${++people}@example.com`);
const newAuthenticator = (options = {}) => new TestAuthenticator({ origin, ...options });
const post = (url: string, body: unknown) => callAnonymously(platform, url, body);

async function optionsFor(user: TestAccount) {
  const { status, body } = await user.call('POST', '/v1/me/passkeys/options', { password });
  expect(status).toBe(200);
  return body;
}

async function add(user: TestAccount, device: TestAuthenticator, tampering: Tampering = {}): Promise<Reply> {
  return user.call('POST', '/v1/me/passkeys', {
    name: ' My phone ',
    credential: device.create(await optionsFor(user), tampering),
  });
}

async function begin() {
  const { status, body } = await callAnonymously(platform, '/v1/auth/passkey/options', undefined);
  expect(status).toBe(200);
  return body;
}

const show = (credential: unknown) => post('/v1/auth/passkey', { credential, refresh_token_in: 'body' });
const logIn = async (device: TestAuthenticator, tampering: Tampering = {}) =>
  show(device.get(await begin(), tampering));

/** Somebody with a passkey. */
async function owner(options = {}): Promise<{ user: TestAccount; device: TestAuthenticator; passkey: { id: string } }> {
  const user = await newUser();
  const device = newAuthenticator(options);
  const { status, body } = await add(user, device);
  expect(status).toBe(201);
  return { user, device, passkey: body };
}

const setUser = (user: TestAccount, change: { status?: 'deactivated' | 'deleted'; password_hash?: null }) =>
  platform.database.db.updateTable('users').set(change).where('id', '=', parseId('user', user.userId)).execute();

const toldOf = async ({ userId }: TestAccount, action: string) =>
  (
    await platform.database.db
      .selectFrom('audit_logs')
      .select(['action', 'metadata'])
      .where('resource_id', '=', parseId('user', userId))
      .where('action', '=', action)
      .execute()
  ).map(({ metadata }) => metadata);

describe('a passkey', () => {
  test('is added, listed, renamed and removed', async () => {
    const { user, passkey } = await owner();
    expect(passkey).toMatchObject({ name: 'My phone', is_synced: true, last_used_at: null });
    expect((await user.call('GET', '/v1/me/passkeys')).body.items).toEqual([passkey]);
    const url = `/v1/me/passkeys/${passkey.id}`;
    expect((await user.call('PATCH', url, { name: 'Old phone' })).body).toMatchObject({ name: 'Old phone' });
    const other = await newUser();
    expect((await other.call('PATCH', url, { name: 'mine' })).status).toBe(404);
    expect((await other.call('DELETE', url)).status).toBe(404);
    expect((await user.call('DELETE', url)).status).toBe(204);
    expect((await user.call('DELETE', url)).status).toBe(404);
    expect((await user.call('GET', '/v1/me/passkeys')).body.items).toEqual([]);
    for (const action of ['user.passkey_add', 'user.passkey_rename', 'user.passkey_remove'])
      expect(await toldOf(user, action)).toHaveLength(1);
  });

  test('opens a session without a name, a password or a code', async () => {
    const { user, device } = await owner();
    await enrolTotp(user, clock.now());
    expect((await logInAs(platform, user.email)).status).toBe(202);
    const reply = await logIn(device);
    expect([reply.status, reply.body.user.id]).toEqual([200, user.userId]);
    expect((await accountOf(platform, reply).call('GET', '/v1/me')).status).toBe(200);
    expect((await user.call('GET', '/v1/me/passkeys')).body.items[0].last_used_at).not.toBeNull();
    expect(await toldOf(user, 'user.log_in')).toEqual([{ method: 'passkey' }]);
  });

  test('needs the password or a code to be added, as a session alone may be stolen', async () => {
    const user = await newUser();
    for (const body of [undefined, {}, { password: 'not the password' }, { code: '000000' }])
      expect((await user.call('POST', '/v1/me/passkeys/options', body)).status).toBe(403);
  });

  test('is not made twice by one device', async () => {
    const { user, device } = await owner();
    const options = await optionsFor(user);
    expect(() => device.create(options)).toThrow('InvalidStateError');
  });

  test('of somebody else is not taken over', async () => {
    const { user: first } = await owner();
    const device = newAuthenticator();
    const [credential] = [device.create(await optionsFor(first))];
    expect((await first.call('POST', '/v1/me/passkeys', { credential })).status).toBe(201);
    const second = await newUser();
    const { challenge } = await optionsFor(second);
    const clientDataJSON = Buffer.from(JSON.stringify({ type: 'webauthn.create', challenge, origin })).toString(
      'base64url',
    );
    const taken = { ...credential, response: { ...credential.response, clientDataJSON } };
    expect((await second.call('POST', '/v1/me/passkeys', { credential: taken })).status).toBe(409);
    expect((await logIn(device)).body.user.id).toBe(first.userId);
  });
});

const refusals: [string, Tampering][] = [
  ['for another page', { origin: 'https://evil.example.com' }],
  ['for a page of another port', { origin: 'http://localhost:1' }],
  ['for another site', { rpId: 'evil.example.com' }],
  ['whose device did not verify its user', { isUserVerified: false }],
  ['of the other kind', { type: 'webauthn.other' }],
  ['for a challenge that never was', { challenge: 'bm9uZQ' }],
];

describe('what is refused', () => {
  test.each(refusals)('a new passkey %s', async (_name, tampering) => {
    const user = await newUser();
    const { status, body } = await add(user, newAuthenticator(), tampering);
    expect([status, body.error.details]).toEqual([400, { field: 'credential' }]);
    expect((await user.call('GET', '/v1/me/passkeys')).body.items).toEqual([]);
  });

  test.each(refusals)('a log-in %s', async (_name, tampering) => {
    const { device } = await owner();
    expect((await logIn(device, tampering)).status).toBe(401);
    expect((await logIn(device)).status).toBe(200);
  });

  test('certificates that nobody asked for are not read', async () => {
    const statement = new Map<string, unknown>([
      ['alg', -7],
      ['sig', Buffer.alloc(64)],
      ['x5c', [Buffer.alloc(16)]],
    ]);
    for (const format of ['packed', 'android-safetynet', 'tpm', 'apple', 'fido-u2f', 'android-key']) {
      const { status, body } = await add(await newUser(), newAuthenticator(), { attestation: { format, statement } });
      expect([status, body.error?.message]).toEqual([400, expect.stringContaining('certificates')]);
    }
  });

  test('a challenge that was answered, rightly or not, that is another user’s, or is old', async () => {
    const { user, device } = await owner();
    const assertion = device.get(await begin());
    expect((await show(assertion)).status).toBe(200);
    expect((await show(assertion)).status).toBe(401);
    const options = await begin();
    expect((await show(device.get(options, { isUserVerified: false }))).status).toBe(401);
    expect((await show(device.get(options))).status).toBe(401);
    const late = await begin();
    const creation = await optionsFor(user);
    const foreign = await optionsFor(await newUser());
    const addBy = (credential: unknown) => user.call('POST', '/v1/me/passkeys', { credential });
    expect((await addBy(newAuthenticator().create(foreign))).status).toBe(400);
    // Of one purpose is not for the other.
    expect((await show(device.get({ ...late, challenge: creation.challenge }))).status).toBe(401);
    aheadMs += 5 * 60_000;
    expect((await show(device.get(late))).status).toBe(401);
    expect((await addBy(newAuthenticator().create(creation))).status).toBe(400);
  });

  test('of one answer sent many times at once all but one', async () => {
    const { device } = await owner();
    const assertion = device.get(await begin());
    const replies = await Promise.all(Array.from({ length: 5 }, () => show(assertion)));
    expect(replies.map(({ status }) => status).sort()).toEqual([200, 401, 401, 401, 401]);
  });

  test('a signature of another key, or over something else', async () => {
    const { user, device } = await owner();
    const { device: other } = await owner();
    const [mine, theirs] = [device.get(await begin()), other.get(await begin())];
    expect((await show({ ...mine, response: { ...mine.response, signature: theirs.response.signature } })).status).toBe(
      401,
    );
    const own = device.get(await begin());
    expect((await show({ ...theirs, id: own.id, rawId: own.rawId })).status).toBe(401);
    const swapped = device.get(await begin());
    const { userHandle } = theirs.response;
    expect((await show({ ...swapped, response: { ...swapped.response, userHandle } })).status).toBe(401);
    expect(await toldOf(user, 'user.log_in_failed')).toEqual(Array(3).fill({ method: 'passkey' }));
    const unknown = newAuthenticator();
    unknown.create(await optionsFor(user));
    expect((await logIn(unknown)).status).toBe(401);
  });

  test('a copy of a device that counts, once either was used', async () => {
    const { user, device } = await owner({ isCounting: true });
    const copy = device.copy();
    expect((await logIn(device)).status).toBe(200);
    expect((await logIn(device)).status).toBe(200);
    expect((await logIn(copy)).status).toBe(401);
    expect(await toldOf(user, 'user.passkey_copied')).toHaveLength(1);
    expect((await logIn(device)).status).toBe(200);
  });

  test('a passkey that was removed, and whose owner is deactivated or gone', async () => {
    const { user, device, passkey } = await owner();
    await user.call('DELETE', `/v1/me/passkeys/${passkey.id}`);
    expect((await logIn(device)).status).toBe(401);
    const { user: gone, device: left } = await owner();
    const creation = await optionsFor(gone);
    await setUser(gone, { status: 'deactivated' });
    expect((await logIn(left)).status).toBe(403);
    const credential = newAuthenticator().create(creation);
    expect((await gone.call('POST', '/v1/me/passkeys', { credential })).status).toBe(403);
    await setUser(gone, { status: 'deleted' });
    expect((await logIn(left)).status).toBe(401);
  });

  test('to remove the last way in, also of two at once', async () => {
    const { user, passkey: first } = await owner();
    const second = (await add(user, newAuthenticator())).body;
    await setUser(user, { password_hash: null });
    const remove = async ({ id }: { id: string }) => (await user.call('DELETE', `/v1/me/passkeys/${id}`)).status;
    expect((await Promise.all([remove(first), remove(second)])).sort()).toEqual([204, 409]);
    const [left] = (await user.call('GET', '/v1/me/passkeys')).body.items;
    expect(await remove(left)).toBe(409);
    expect((await user.call('POST', '/v1/me/password', { new_password: password })).status).toBe(204);
    expect(await remove(left)).toBe(204);
  });
});

/** Resets the password by a link, as it would have been mailed. */
async function resetPassword({ userId }: TestAccount): Promise<void> {
  const now = new Date(clock.now());
  const secret = await insertOneTimeToken(platform.database.db, {
    purpose: 'password_reset',
    userId: parseId('user', userId),
    isMailed: true,
    now,
    expiresAt: new Date(now.getTime() + 60_000),
  });
  const body = { token: secret, new_password: 'another password' };
  expect((await post('/v1/me/password/reset/confirm', body)).status).toBe(204);
}

test('who reads the address gets the account without the passkeys of one who does not; else they stay', async () => {
  const { user, device } = await owner();
  await resetPassword(user);
  expect((await logIn(device)).status).toBe(401);
  const signedIn = accountOf(platform, await logInAs(platform, user.email, 'another password'));
  const options = await signedIn.call('POST', '/v1/me/passkeys/options', { password: 'another password' });
  const own = newAuthenticator();
  const added = await signedIn.call('POST', '/v1/me/passkeys', { credential: own.create(options.body) });
  expect(added.status).toBe(201);
  await resetPassword(user);
  expect((await logIn(own)).status).toBe(200);
});

test.each([
  ['https://aviary.example.com/x', { rpId: 'aviary.example.com', origin: 'https://aviary.example.com' }],
  ['http://127.0.0.1:7070', { rpId: 'localhost', origin: 'http://localhost:7070' }],
  ['http://[::1]:7070', { rpId: 'localhost', origin: 'http://localhost:7070' }],
])('the site of %s', (url, site) => {
  expect(passkeySite(new URL(url))).toEqual(site);
});

test('there are no passkeys at a bare address', () => {
  for (const url of ['http://10.0.0.1', 'http://[2001:db8::1]:7070'])
    expect(() => passkeySite(new URL(url))).toThrow('AVIARY_PUBLIC_URL');
});
