import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { parseId } from '@aviary/core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTestPlatform, type TestPlatform } from '../test-platform.ts';
import { createLinkToken } from './account-link.ts';
import { logInAs, password, signUpAs } from './test-account.ts';

type Call = (url: string, body: unknown, token?: string) => Promise<unknown>;
type Action = (call: Call, token: string, fields: Record<string, string>) => Promise<string>;

let platform: TestPlatform;
let actions: Record<string, Action>;
beforeAll(async () => {
  platform = await startTestPlatform();
  // What browsers are given.
  ({ actions } = await import(new URL('./pages/account-actions.js', import.meta.url).href));
});
afterAll(() => platform?.[Symbol.asyncDispose]());

const call: Call = async (url, body, token) => {
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const reply = await platform.call('POST', url, { key: '', body, headers });
  if (reply.status >= 400) throw new Error(reply.body.error.message);
  return reply.body;
};
const act = (page: string, token: string, fields: Record<string, string> = {}) => {
  const action = actions[page];
  if (!action) throw new Error(`no page does ${page}`);
  return action(call, token, fields);
};

test.each(['verify-email', 'reset-password', 'invitation', 'claim'])(
  '%s is a page that runs its own scripts alone',
  async (page) => {
    const response = await fetch(`${platform.controlPlane.url}/account/${page}`);
    expect(response.status).toBe(200);
    expect(response.headers.get('content-security-policy')).toContain("default-src 'none'; script-src 'self'");
    expect(response.headers.get('referrer-policy')).toBe('no-referrer');
    const html = await response.text();
    expect(html).toContain(`<form id="${page}" hidden>`);
    for (const [, file] of html.matchAll(/(?:src|href)="([^"]+)"/g)) {
      const asset = await fetch(new URL(file ?? '', platform.controlPlane.url));
      expect([file, asset.status]).toEqual([file, 200]);
    }
    expect((await fetch(`${platform.controlPlane.url}/account/account-actions.js`)).status).toBe(200);
  },
);

test('the pages verify an address and set a password', async () => {
  const { email, userId } = await signUpAs(platform, 'page@example.com');
  const { db } = platform.database;
  const token = async (purpose: 'email_verification' | 'password_reset') =>
    (await createLinkToken(db, { userId: parseId('user', userId), purpose, isMailed: false, now: new Date() })).token;
  await expect(act('verify-email', 'wrong')).rejects.toThrow('the link is unknown');
  expect(await act('verify-email', await token('email_verification'))).toContain('is verified');
  expect(await act('reset-password', await token('password_reset'), { password: 'quite another one' })).toContain(
    'is set',
  );
  expect((await logInAs(platform, email, 'quite another one')).body.user.email_verified).toBe(true);
});

test('the page of an invitation takes in who has an account, and who makes one, and leaves no session', async () => {
  const owner = await platform.signIn();
  const invite = async (email: string) =>
    (await owner.call('POST', `/v1/teams/team-${owner.teamId}/members`, { body: { email } })).body.token;
  const fresh = { email: 'fresh@example.com', password, isNew: 'yes' };
  expect(await act('invitation', await invite(fresh.email), fresh)).toContain('as member');
  const { email } = await signUpAs(platform, 'there@example.com');
  const token = await invite(email);
  await expect(act('invitation', token, { email, password: 'wrong' })).rejects.toThrow('wrong');
  expect(await act('invitation', token, { email, password })).toContain('You are in the team');
  const open = await platform.database.db
    .selectFrom('sessions')
    .innerJoin('users', 'users.id', 'sessions.user_id')
    .select('email')
    .where('email', 'in', [fresh.email, email])
    .where('revoked_at', 'is', null)
    .execute();
  // The one of signing up above.
  expect(open).toEqual([{ email }]);
});

test('the platform is claimed by a page', async () => {
  const code = (await readFile(path.join(platform.dataDirectory, 'bootstrap', 'claim-code'), 'utf8')).trim();
  expect(await act('claim', code, { email: 'first@example.com', password, name: '' })).toContain('is administrator');
  expect((await logInAs(platform, 'first@example.com')).body.user.is_admin).toBe(true);
});
