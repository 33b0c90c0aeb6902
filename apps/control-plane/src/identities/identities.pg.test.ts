import { describeStores } from '@aviary/testing';
import { expect, test } from 'vitest';
import { accountOf, password } from '../accounts/test-account.ts';
import { TestBrowser } from './test-browser.ts';
import { startOidcPlatform } from './test-oidc-platform.ts';
import { logInAtProvider } from './test-servers.ts';

describeStores('somebody of a provider', (open) => {
  test('who signs in several times at once gets one account', async () => {
    await using at = await startOidcPlatform({ database: await open() });
    const { login } = at.newPerson();
    const browsers = [1, 2, 3, 4].map(() => new TestBrowser());
    const backs = await Promise.all(browsers.map((browser) => at.goThere(browser, login)));
    const pages = await Promise.all(browsers.map((browser, nth) => browser.open(backs[nth]?.href ?? '')));
    const replies = await Promise.all(
      browsers.map((browser, nth) => at.exchangeIn(browser, new URL(pages[nth]?.location ?? ''))),
    );
    expect(replies.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
    expect(new Set(replies.map(({ body }) => body.user.id)).size).toBe(1);
  });

  test('is let in once by what came back, and by its code, however often they are shown at once', async () => {
    await using at = await startOidcPlatform({ database: await open() });
    const browser = new TestBrowser();
    const back = await at.goThere(browser, at.newPerson().login);
    const pages = await Promise.all([1, 2, 3].map(() => browser.open(back.href)));
    expect(pages.map(({ status }) => status).sort()).toEqual([303, 400, 400]);
    const url = new URL(pages.find(({ status }) => status === 303)?.location ?? '');
    const replies = await Promise.all([1, 2, 3].map(() => at.exchangeIn(browser, url)));
    expect(replies.map(({ status }) => status).sort()).toEqual([200, 401, 401]);
  });

  test('keeps one way in, whatever is unlinked at once', async () => {
    await using at = await startOidcPlatform({ database: await open() });
    const user = accountOf(at.platform, await at.signIn(at.newPerson().login));
    const begun = await user.call('POST', '/v1/me/identities', { provider: 'other' });
    const cookie = begun.headers.getSetCookie()[0]?.split(';', 1)[0] ?? '';
    const browser = new TestBrowser();
    const back = await logInAtProvider(browser, begun.body.authorization_url, at.newPerson().login);
    await browser.open(back, { headers: { cookie } });
    const { items } = (await user.call('GET', '/v1/me/identities')).body;
    const replies = await Promise.all(
      items.map(({ id }: { id: string }) => user.call('DELETE', `/v1/me/identities/${id}`)),
    );
    expect(replies.map(({ status }) => status).sort()).toEqual([204, 409]);
    expect((await user.call('POST', '/v1/me/password', { new_password: password })).status).toBe(204);
  });
});
