import { must } from '@aviary/core';
import { type Clock, systemClock } from '@aviary/service-kit';
import { describeStores } from '@aviary/testing';
import { expect, test } from 'vitest';
import { startTestPlatform } from '../test-platform.ts';
import { callAnonymously, enrolTotp, logInAs, signUpAs } from './test-account.ts';

describeStores('a second factor that is shown several times at once', (open) => {
  const start = async () => {
    let aheadMs = 0;
    const clock: Clock = { ...systemClock, now: () => Date.now() + aheadMs };
    const platform = await startTestPlatform({ database: await open(), overrides: { clock } });
    const user = await signUpAs(platform, 'ada@example.com');
    const factor = await enrolTotp(user, clock.now());
    aheadMs += 60_000;
    const challenge = async () => (await logInAs(platform, user.email)).body.challenge as string;
    const complete = async (one: string, code: string) =>
      (await callAnonymously(platform, '/v1/auth/second-factor', { challenge: one, code })).status;
    return { platform, user, clock, challenge, complete, ...factor };
  };

  test('opens one session by one code, whatever the challenges', async () => {
    const { platform, clock, app, challenge, complete, recoveryCodes } = await start();
    await using _platform = platform;
    for (const code of [app.generate({ timestamp: clock.now() }), must(recoveryCodes[0], 'ten')]) {
      const challenges = await Promise.all([challenge(), challenge(), challenge()]);
      const statuses = await Promise.all(challenges.map((one) => complete(one, code)));
      expect(statuses.sort()).toEqual([200, 401, 401]);
    }
  });

  test('opens one session by one challenge, whatever the codes', async () => {
    const { platform, challenge, complete, recoveryCodes } = await start();
    await using _platform = platform;
    const one = await challenge();
    const statuses = await Promise.all(recoveryCodes.slice(0, 4).map((code) => complete(one, code)));
    expect(statuses.sort()).toEqual([200, 401, 401, 401]);
    const left = await platform.database.db.selectFrom('recovery_codes').select('code_hash').execute();
    expect(left).toHaveLength(9);
  });

  test('counts each wrong code', async () => {
    const { platform, user, challenge, complete } = await start();
    await using _platform = platform;
    const one = await challenge();
    const statuses = await Promise.all(Array.from({ length: 14 }, () => complete(one, 'not-a-code')));
    expect(statuses.sort()).toEqual([...Array(10).fill(401), ...Array(4).fill(429)]);
    expect((await user.call('GET', '/v1/me')).status).toBe(200);
  });
});
