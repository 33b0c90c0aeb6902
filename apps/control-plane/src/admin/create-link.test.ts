import { newId } from '@aviary/core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { callAnonymously, logInAs, signUpAs, type TestAccount } from '../accounts/test-account.ts';
import { startTestPlatform, type TestPerson, type TestPlatform } from '../test-platform.ts';

// Without a mail server: what people wait for is handed over by an administrator.
let platform: TestPlatform;
let admin: TestPerson;
beforeAll(async () => {
  platform = await startTestPlatform();
  admin = await platform.signIn({ isAdmin: true });
});
afterAll(() => platform?.[Symbol.asyncDispose]());

const newAddress = () => `${newId('user')}@example.com`;
const linkFor = (userId: string, purpose = 'password_reset', by = admin) =>
  by.call('POST', `/v1/admin/users/${userId}/links`, { body: { purpose } });
const tokenOf = (url: string) => new URL(url).hash.slice(1);
const reset = async (url: string) => {
  const body = { token: tokenOf(url), new_password: 'another good password' };
  return (await callAnonymously(platform, '/v1/me/password/reset/confirm', body)).status;
};
const me = async (account: TestAccount) => (await account.call('GET', '/v1/me')).body;

test('a link sets a password and ends the sessions, and proves nothing of the address', async () => {
  const account = await signUpAs(platform, newAddress());
  const { key } = (await account.call('POST', '/v1/api-keys', { name: 'kept' })).body;
  const { status, body } = await linkFor(account.userId);
  expect([status, new URL(body.url).pathname]).toEqual([201, '/account/reset-password']);
  expect([await reset(body.url), await reset(body.url)]).toEqual([204, 401]);
  expect((await account.call('GET', '/v1/me')).status).toBe(401);
  const again = await logInAs(platform, account.email, 'another good password');
  expect(again.body.user.email_verified).toBe(false);
  expect((await platform.call('GET', '/v1/sandboxes', { key })).status).toBe(200);
  const { items } = (await admin.call('GET', '/v1/admin/audit-logs?action=user.link_create')).body;
  expect(items).toMatchObject([
    {
      resource: { id: account.userId },
      actor: { name: admin.email },
      metadata: { email: account.email, purpose: 'password_reset' },
    },
  ]);
});

test('a link verifies an address', async () => {
  const account = await signUpAs(platform, newAddress());
  const { url } = (await linkFor(account.userId, 'email_verification')).body;
  expect(await reset(url)).toBe(401);
  expect((await callAnonymously(platform, '/v1/auth/verify-email', { token: tokenOf(url) })).status).toBe(204);
  expect((await me(account)).email_verified).toBe(true);
});

test('links are made by administrators, for who is there and active', async () => {
  const account = await signUpAs(platform, newAddress());
  expect((await linkFor(account.userId, 'password_reset', await platform.signIn())).status).toBe(403);
  expect((await linkFor(`usr-${newId('user')}`)).status).toBe(404);
  const { url } = (await linkFor(account.userId)).body;
  await admin.call('PUT', `/v1/admin/users/${account.userId}/active`, { body: { active: false } });
  expect((await linkFor(account.userId)).status).toBe(409);
  expect(await reset(url)).toBe(401);
});

test('mails that could not be sent are listed, without a token, page by page', async () => {
  const [first, second] = [await signUpAs(platform, newAddress()), await signUpAs(platform, newAddress())];
  await callAnonymously(platform, '/v1/me/password/reset', { email: second.email });
  await callAnonymously(platform, '/v1/me/password/reset', { email: newAddress() });
  await platform.controlPlane.context.mailer.runOnce();
  const page = (await admin.call('GET', '/v1/admin/mails?limit=2')).body;
  expect(page.items).toMatchObject([
    { email: second.email, kind: 'password_reset', state: 'logged', next_attempt_at: null },
    { email: second.email, kind: 'verify_email', state: 'logged' },
  ]);
  const rest = (await admin.call('GET', `/v1/admin/mails?cursor=${page.next_cursor}`)).body;
  expect(rest.items[0]).toMatchObject({ email: first.email, kind: 'verify_email' });
  expect(JSON.stringify([page, rest])).not.toMatch(/[0-9a-f]{40}/);
  expect((await (await platform.signIn()).call('GET', '/v1/admin/mails')).status).toBe(403);
});
