import { expect, test } from 'vitest';
import { startMailServer } from '../mail/test-mail-server.ts';
import { startTestPlatform } from '../test-platform.ts';
import { callAnonymously, enrolTotp, logInAs, password, signUpAs } from './test-account.ts';

test('the owner of an account is told by mail what becomes of its second factor', async () => {
  await using server = await startMailServer();
  await using platform = await startTestPlatform({ smtp: server.settings });
  const user = await signUpAs(platform, 'Ada@example.com');
  const { recoveryCodes } = await enrolTotp(user);
  expect((await server.mailTo(user.email, 'asks for a second factor')).text).toContain('If it was not you');
  const { challenge } = (await logInAs(platform, user.email)).body;
  const [code] = recoveryCodes;
  expect((await callAnonymously(platform, '/v1/auth/second-factor', { challenge, code })).status).toBe(200);
  expect((await server.mailTo(user.email, 'recovery code')).text).not.toContain(code);
  expect((await user.call('POST', '/v1/me/totp/disable', { password })).status).toBe(204);
  await server.mailTo(user.email, 'no second factor any more');
});
