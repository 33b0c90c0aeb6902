import { existsSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { startTestPlatform, type TestPlatform } from '../test-platform.ts';
import { accountOf, callAnonymously, enrolTotp, password, signUpAs } from './test-account.ts';

let platform: TestPlatform;
afterEach(() => platform[Symbol.asyncDispose]());

const file = () => path.join(platform.dataDirectory, 'bootstrap', 'claim-code');
const claim = (code: string, email = 'admin@example.com', given = password) =>
  callAnonymously(platform, '/v1/auth/claim', { code, email, password: given, refresh_token_in: 'body' });

test('the first administrator claims the platform by the code in its file, once', async () => {
  platform = await startTestPlatform();
  expect((await stat(file())).mode & 0o777).toBe(0o600);
  const code = await readFile(file(), 'utf8');
  expect((await claim('wrong')).status).toBe(401);
  const bystander = await signUpAs(platform, 'first@example.com');
  expect((await bystander.call('GET', '/v1/me')).body.is_admin).toBe(false);
  const replies = await Promise.all([claim(code), claim(code, 'other@example.com')]);
  expect(replies.map(({ status }) => status).sort()).toEqual([201, 401]);
  const [won] = replies.filter(({ status }) => status === 201);
  expect(won?.body).toMatchObject({ user: { is_admin: true }, team: { name: 'Default', role: 'owner' } });
  await expect.poll(() => existsSync(file())).toBe(false);
  await platform.startReplica();
  expect(existsSync(file())).toBe(false);
  expect((await claim(code, 'late@example.com')).status).toBe(401);
  expect((await platform.call('GET', '/v1/sandboxes')).status).toBe(200);
});

test('an account that is there claims it by its own password', async () => {
  platform = await startTestPlatform();
  const user = await signUpAs(platform, 'here@example.com');
  const code = await readFile(file(), 'utf8');
  expect((await claim(code, user.email, 'another password')).status).toBe(409);
  const reply = await claim(code, user.email);
  expect([reply.status, reply.body.user.id]).toEqual([201, user.userId]);
  expect((await accountOf(platform, reply).call('GET', '/v1/me')).body.is_admin).toBe(true);
});

test('an account with a second factor becomes administrator, and shows the factor before it has a session', async () => {
  platform = await startTestPlatform();
  const user = await signUpAs(platform, 'here@example.com');
  const { recoveryCodes } = await enrolTotp(user);
  const reply = await claim(await readFile(file(), 'utf8'), user.email);
  expect([reply.status, reply.body.access_token]).toEqual([202, undefined]);
  const [code] = recoveryCodes;
  const body = { challenge: reply.body.challenge, code };
  const completed = await callAnonymously(platform, '/v1/auth/second-factor', body);
  expect([completed.status, completed.body.user.is_admin]).toEqual([200, true]);
});

test('a start keeps a code that is good', async () => {
  platform = await startTestPlatform();
  const code = await readFile(file(), 'utf8');
  await platform.startReplica();
  expect(await readFile(file(), 'utf8')).toBe(code);
});
