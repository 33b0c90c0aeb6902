import { newId, parseId } from '@aviary/core';
import { sql } from 'kysely';
import { TOTP } from 'otpauth';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startMailServer, type TestMailServer } from '../mail/test-mail-server.ts';
import { startTestPlatform, type TestPlatform } from '../test-platform.ts';
import { callAnonymously, logInAs, password, signUpAs, type TestAccount } from './test-account.ts';

let server: TestMailServer;
let platform: TestPlatform;
beforeAll(async () => {
  server = await startMailServer();
  // Mails that wait for the next look are sent when a test says so.
  const overrides = { mailer: { pollMs: 3_600_000 } };
  platform = await startTestPlatform({ smtp: server.settings, overrides });
});
afterAll(async () => {
  await platform?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});

const newPassword = 'another good password';
const newAddress = () => `${newId('user')}@example.com`;
const tokenOf = ({ link }: { link: string }) => new URL(link).hash.slice(1);
const post = async (url: string, body: unknown) => (await callAnonymously(platform, url, body)).status;
const verify = (token: string) => post('/v1/auth/verify-email', { token });
const reset = (token: string, wanted = newPassword) =>
  post('/v1/me/password/reset/confirm', { token, new_password: wanted });
const isVerified = async (account: TestAccount) => (await account.call('GET', '/v1/me')).body.email_verified;
const settle = () => platform.controlPlane.context.mailer.runOnce();
const requestReset = (email: string) => post('/v1/me/password/reset', { email });

/** Asks for a reset and has its mail sent. */
async function askReset(email: string): Promise<number> {
  const status = await requestReset(email);
  await settle();
  return status;
}

/** Somebody new, with the mail that signing up sent. */
async function signUp(email = newAddress()) {
  const account = await signUpAs(platform, email);
  return { account, mail: await server.mailTo(email, 'Verify') };
}

/** What the platform's own log tells of a person, oldest first. */
async function tellOf({ userId }: TestAccount): Promise<string[]> {
  const admin = await platform.signIn({ isAdmin: true });
  const { items } = (await admin.call('GET', '/v1/admin/audit-logs?limit=200')).body;
  return items
    .filter((item: { resource: { id: string } }) => item.resource.id === userId)
    .map((item: { action: string }) => item.action)
    .reverse();
}

describe('an address', () => {
  test('is verified by the link of its mail, once', async () => {
    const { account, mail } = await signUp();
    expect(new URL(mail.link).pathname).toBe('/account/verify-email');
    expect(await isVerified(account)).toBe(false);
    expect(await verify('0'.repeat(40))).toBe(401);
    expect(await verify(tokenOf(mail))).toBe(204);
    expect(await isVerified(account)).toBe(true);
    expect(await verify(tokenOf(mail))).toBe(401);
    expect(await tellOf(account)).toEqual(['user.sign_up', 'user.email_verify']);
    expect((await account.call('POST', '/v1/auth/verify-email/request')).status).toBe(204);
    await settle();
    expect(server.received).toEqual([]);
  });

  test('that is verified makes a member at once of who has it', async () => {
    const owner = await platform.signIn();
    const url = `/v1/teams/team-${owner.teamId}/members`;
    const { account, mail } = await signUp();
    await verify(tokenOf(mail));
    const { body } = await owner.call('POST', url, { body: { email: account.email } });
    expect(body.member.user_id).toBe(account.userId);
    await server.mailTo(account.email, 'You are in');
  });

  test('can be asked for again, a few times; a link is for nothing else and not for ever', async () => {
    const { account, mail } = await signUp();
    const ask = async () => (await account.call('POST', '/v1/auth/verify-email/request')).status;
    expect(await ask()).toBe(204);
    const second = await server.mailTo(account.email, 'Verify');
    expect(await reset(tokenOf(second))).toBe(401);
    for (let i = 0; i < 4; i++) expect(await ask()).toBe(204);
    expect(await ask()).toBe(429);
    const { db } = platform.database;
    await db.updateTable('one_time_tokens').set({ expires_at: new Date() }).execute();
    expect([await verify(tokenOf(mail)), await verify(tokenOf(second))]).toEqual([401, 401]);
    await settle();
    server.received.length = 0;
  });
});

describe('a password', () => {
  test('is reset by the link of a mail, once; all sessions end', async () => {
    const { account, mail } = await signUp();
    await verify(tokenOf(mail));
    const { key } = (await account.call('POST', '/v1/api-keys', { name: 'kept' })).body;
    const other = await logInAs(platform, account.email);
    expect(await askReset(account.email.toUpperCase())).toBe(204);
    const link = await server.mailTo(account.email, 'Reset');
    expect(new URL(link.link).pathname).toBe('/account/reset-password');
    expect(await reset(tokenOf(link), 'short')).toBe(400);
    const tries = await Promise.all([reset(tokenOf(link)), reset(tokenOf(link))]);
    expect(tries.sort()).toEqual([204, 401]);
    expect((await account.call('GET', '/v1/me')).status).toBe(401);
    expect(await post('/v1/auth/refresh', { refresh_token: other.body.refresh_token })).toBe(401);
    expect((await logInAs(platform, account.email)).status).toBe(401);
    expect((await logInAs(platform, account.email, newPassword)).status).toBe(200);
    expect((await platform.call('GET', '/v1/sandboxes', { key })).status).toBe(200);
    await server.mailTo(account.email, 'was changed');
    expect((await tellOf(account)).slice(2, 5)).toEqual([
      'user.log_in',
      'user.password_reset_request',
      'user.password_reset',
    ]);
  });

  test('that is reset voids other links, as one that is changed does', async () => {
    const { account } = await signUp();
    await askReset(account.email);
    const first = await server.mailTo(account.email, 'Reset');
    await askReset(account.email);
    const second = await server.mailTo(account.email, 'Reset');
    expect(await reset(tokenOf(second))).toBe(204);
    expect(await reset(tokenOf(first))).toBe(401);
    await askReset(account.email);
    const third = await server.mailTo(account.email, 'Reset');
    const { body } = await logInAs(platform, account.email, newPassword);
    const changed = await platform.call('POST', '/v1/me/password', {
      key: '',
      headers: { authorization: `Bearer ${body.access_token}` },
      body: { current_password: newPassword, new_password: password },
    });
    expect([changed.status, await reset(tokenOf(third))]).toEqual([204, 401]);
    await settle();
    server.received.length = 0;
  });

  test('is added to an account without one', async () => {
    const person = await platform.signIn();
    await askReset(person.email);
    expect(await reset(tokenOf(await server.mailTo(person.email, 'Reset')))).toBe(204);
    expect((await logInAs(platform, person.email, newPassword)).status).toBe(200);
    await server.mailTo(person.email, 'was changed');
  });

  test('reset by who reads the address takes the account from who made it without', async () => {
    const { account: stranger } = await signUp();
    const { key } = (await stranger.call('POST', '/v1/api-keys', { name: 'left behind' })).body;
    expect((await platform.call('GET', '/v1/sandboxes', { key })).status).toBe(200);
    const { db } = platform.database;
    const identities = () =>
      db.selectFrom('identities').select('id').where('user_id', '=', parseId('user', stranger.userId)).execute();
    await db
      .insertInto('identities')
      .values({
        id: newId('identity'),
        user_id: parseId('user', stranger.userId),
        issuer: 'https://id.example.com',
        subject: 'x',
        email: null,
        last_used_at: new Date(),
      })
      .execute();
    expect(await identities()).toHaveLength(1);
    await db
      .insertInto('passkeys')
      .values({
        id: newId('passkey'),
        user_id: parseId('user', stranger.userId),
        name: 'laptop',
        credential_id: stranger.userId,
        public_key: 'x',
        counter: 0,
        is_synced: false,
      })
      .execute();
    await askReset(stranger.email);
    await reset(tokenOf(await server.mailTo(stranger.email, 'Reset')));
    expect((await platform.call('GET', '/v1/sandboxes', { key })).status).toBe(401);
    expect(await identities()).toEqual([]);
    const log = await db
      .selectFrom('audit_logs')
      .select(['action', 'metadata'])
      .where('resource_id', '=', parseId('user', stranger.userId))
      .where('action', 'in', ['user.identity_unlink', 'user.passkey_remove'])
      .orderBy('action')
      .execute();
    expect(log).toMatchObject([
      {
        action: 'user.identity_unlink',
        metadata: { issuer: 'https://id.example.com', cause: expect.stringContaining('not verified') },
      },
      { action: 'user.passkey_remove', metadata: { label: 'laptop', cause: expect.stringContaining('not verified') } },
    ]);
    expect((await logInAs(platform, stranger.email, newPassword)).body.user.email_verified).toBe(true);
    await server.mailTo(stranger.email, 'was changed');
  });

  test('that is reset is no way around a second factor', async () => {
    const { account, mail } = await signUp();
    await verify(tokenOf(mail));
    const { secret } = (await account.call('POST', '/v1/me/totp', { password })).body;
    await account.call('POST', '/v1/me/totp/confirm', { code: new TOTP({ secret }).generate() });
    await server.mailTo(account.email, 'second factor');
    await askReset(account.email);
    expect(await reset(tokenOf(await server.mailTo(account.email, 'Reset')))).toBe(204);
    const { status, body } = await logInAs(platform, account.email, newPassword);
    expect([status, body.access_token, body.methods]).toEqual([202, undefined, ['totp', 'recovery_code']]);
    await server.mailTo(account.email, 'was changed');
  });

  test('of nobody, or of one who is deactivated, is asked for in the same way, and no mail goes out', async () => {
    const { account } = await signUp();
    await askReset(account.email);
    const early = await server.mailTo(account.email, 'Reset');
    const admin = await platform.signIn({ isAdmin: true });
    await admin.call('PUT', `/v1/admin/users/${account.userId}/active`, { body: { active: false } });
    expect([await askReset(account.email), await askReset(newAddress())]).toEqual([204, 204]);
    await settle();
    expect([server.received, await platform.database.db.selectFrom('mails').select('id').execute()]).toEqual([[], []]);
    expect(await reset(tokenOf(early))).toBe(401);
  });

  test('is asked for with the same traces, whether it is somebody’s or nobody’s', async () => {
    const { account } = await signUp();
    const { db } = platform.database;
    const count = async () => {
      const from = (table: 'one_time_tokens' | 'audit_logs' | 'mails') =>
        db.selectFrom(table).select(sql<number>`count(*)::integer`.as('count')).executeTakeFirstOrThrow();
      return Promise.all([from('one_time_tokens'), from('audit_logs'), from('mails')]);
    };
    const traces: unknown[] = [];
    for (const email of [account.email, newAddress()]) {
      const before = await count();
      await requestReset(email);
      const asked = await count();
      await settle();
      const done = await count();
      const change = (from: typeof before, to: typeof before) =>
        to.map((each, i) => each.count - (from[i]?.count ?? 0));
      traces.push([change(before, asked), change(asked, done)]);
    }
    // At first a mail is left and nothing else is done.
    expect(traces).toEqual(
      Array(2).fill([
        [0, 0, 1],
        [1, 1, -1],
      ]),
    );
    await server.mailTo(account.email, 'Reset');
  });

  test('is asked for a few times for one address', async () => {
    const email = newAddress();
    for (let i = 0; i < 5; i++) expect(await askReset(email)).toBe(204);
    expect(await askReset(email)).toBe(429);
    expect(await askReset(newAddress())).toBe(204);
  });
});

test('who had an account hears that it is deleted', async () => {
  const { account } = await signUp();
  expect((await account.call('DELETE', '/v1/me', { password })).status).toBe(204);
  expect((await server.mailTo(account.email, 'was deleted')).text).toContain('For 15 days');
});

test('a mail server that is away keeps nobody from signing up, and gets the mail when it is back', async () => {
  const email = newAddress();
  server.refusal = { code: 421, text: 'closed for today' };
  const account = await signUpAs(platform, email);
  const { db } = platform.database;
  const waiting = () => db.selectFrom('mails').select(['state', 'last_error']).execute();
  await expect.poll(waiting).toMatchObject([{ state: 'waiting', last_error: expect.stringContaining('closed') }]);
  server.refusal = undefined;
  await db.updateTable('mails').set({ next_attempt_at: new Date() }).execute();
  await settle();
  expect(await verify(tokenOf(await server.mailTo(email, 'Verify')))).toBe(204);
  expect(await isVerified(account)).toBe(true);
});
