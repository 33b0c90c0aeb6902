import { parseId } from '@aviary/core';
import { describeStores } from '@aviary/testing';
import { afterEach, expect, test } from 'vitest';
import { startTestPlatform, type TestPlatform } from '../test-platform.ts';
import { createLinkToken, type LinkPurpose } from './account-link.ts';
import { callAnonymously, logInAs, password, signUpAs } from './test-account.ts';

describeStores('links of accounts', (open) => {
  let platform: TestPlatform;
  afterEach(() => platform?.[Symbol.asyncDispose]());

  const start = async () => {
    platform = await startTestPlatform({ database: await open() });
    const account = await signUpAs(platform, 'ada@example.com');
    const userId = parseId('user', account.userId);
    const makeToken = async (purpose: LinkPurpose) =>
      (await createLinkToken(platform.database.db, { userId, purpose, isMailed: true, now: new Date() })).token;
    return { account, makeToken };
  };
  const statusesOf = (replies: { status: number }[]) => replies.map(({ status }) => status).sort();

  test('of many who use one at once, one does', async () => {
    const { account, makeToken } = await start();
    const resetBy = (token: string, wanted: string) =>
      callAnonymously(platform, '/v1/me/password/reset/confirm', { token, new_password: wanted });
    const token = await makeToken('password_reset');
    const wanted = Array.from({ length: 8 }, (_, i) => `password number ${i}`);
    const resets = await Promise.all(wanted.map((each) => resetBy(token, each)));
    expect(statusesOf(resets)).toEqual([204, ...Array(7).fill(401)]);
    const winner = wanted[resets.findIndex(({ status }) => status === 204)] ?? '';
    expect((await logInAs(platform, account.email, winner)).status).toBe(200);
    const verification = await makeToken('email_verification');
    const verify = () => callAnonymously(platform, '/v1/auth/verify-email', { token: verification });
    expect(statusesOf(await Promise.all(Array.from({ length: 8 }, verify)))).toEqual([204, ...Array(7).fill(401)]);
  });

  test('a reset and a log-in with the old password at once leave no session of the old one', async () => {
    const { account, makeToken } = await start();
    const token = await makeToken('password_reset');
    const body = { token, new_password: 'another good password' };
    const [reset, ...logIns] = await Promise.all([
      callAnonymously(platform, '/v1/me/password/reset/confirm', body),
      ...Array.from({ length: 5 }, () => logInAs(platform, account.email, password)),
    ]);
    expect(reset.status).toBe(204);
    for (const { status, body: opened } of logIns) {
      if (status !== 200) continue;
      const headers = { authorization: `Bearer ${opened.access_token}` };
      expect((await platform.call('GET', '/v1/me', { key: '', headers })).status).toBe(401);
    }
    expect((await logInAs(platform, account.email, password)).status).toBe(401);
  });
});
