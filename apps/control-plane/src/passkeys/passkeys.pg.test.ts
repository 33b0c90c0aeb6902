import { parseId } from '@aviary/core';
import { describeStores } from '@aviary/testing';
import { expect, test } from 'vitest';
import { callAnonymously, password, signUpAs } from '../accounts/test-account.ts';
import { startTestPlatform } from '../test-platform.ts';
import { passkeySite } from './passkey-site.ts';
import { TestAuthenticator } from './test-authenticator.ts';

describeStores('passkeys that are used at once', (open) => {
  const start = async () => {
    const platform = await startTestPlatform({ database: await open() });
    const { origin } = passkeySite(platform.controlPlane.context.accounts.settings.publicUrl);
    const user = await signUpAs(platform, 'ada@example.com');
    const add = async (device: TestAuthenticator): Promise<string> => {
      const { body: options } = await user.call('POST', '/v1/me/passkeys/options', { password });
      return (await user.call('POST', '/v1/me/passkeys', { credential: device.create(options) })).body.id;
    };
    const begin = async () => (await callAnonymously(platform, '/v1/auth/passkey/options', undefined)).body;
    const show = async (credential: unknown) =>
      (await callAnonymously(platform, '/v1/auth/passkey', { credential })).status;
    const device = new TestAuthenticator({ origin, isCounting: true });
    return { platform, user, add, begin, show, device, other: new TestAuthenticator({ origin }) };
  };

  test('open one session by one answer, and one by one count of signatures', async () => {
    const { platform, add, begin, show, device } = await start();
    await using _platform = platform;
    await add(device);
    const copy = device.copy();
    const answer = device.get(await begin());
    expect((await Promise.all([1, 2, 3].map(() => show(answer)))).sort()).toEqual([200, 401, 401]);
    copy.get(await begin());
    const [mine, copied] = [device.get(await begin()), copy.get(await begin())];
    expect((await Promise.all([show(mine), show(copied)])).sort()).toEqual([200, 401]);
  });

  test('are added once, and the last of them stays', async () => {
    const { platform, user, add, device, other } = await start();
    await using _platform = platform;
    const { body: options } = await user.call('POST', '/v1/me/passkeys/options', { password });
    const credential = device.create(options);
    const twice = await Promise.all([1, 2].map(() => user.call('POST', '/v1/me/passkeys', { credential })));
    expect(twice.map(({ status }) => status).sort()).toEqual([201, 400]);
    await add(other);
    const { db } = platform.database;
    await db.updateTable('users').set({ password_hash: null }).where('id', '=', parseId('user', user.userId)).execute();
    const { items } = (await user.call('GET', '/v1/me/passkeys')).body;
    const removals = items.map(({ id }: { id: string }) => user.call('DELETE', `/v1/me/passkeys/${id}`));
    const statuses = (await Promise.all(removals)).map(({ status }) => status);
    expect(statuses.sort()).toEqual([204, 409]);
  });
});
