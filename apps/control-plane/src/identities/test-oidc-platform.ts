import type { Database } from '@aviary/database';
import { callAnonymously } from '../accounts/test-account.ts';
import type { SmtpSettings } from '../mail/smtp-transport.ts';
import type { Reply, TestPlatform } from '../test-platform.ts';
import { TestBrowser } from './test-browser.ts';
import {
  logInAtProvider,
  oidcSettings,
  type People,
  startOidcServer,
  startPlatformWith,
  type TestServer,
} from './test-servers.ts';

/** For tests: a platform with the providers `acme` and `other`, two real servers that know the same people. */
export interface OidcPlatform extends AsyncDisposable {
  platform: TestPlatform;
  /** Where the platform is. */
  base: string;
  servers: TestServer[];
  /** Somebody at the providers, whom the platform does not know. */
  newPerson(known?: Partial<People[string]>): { login: string; email: string };
  /** Where a sign-in begins. */
  start(query?: string, provider?: string): string;
  /** Logs in at the provider: where it sends the browser back to. */
  goThere(browser: TestBrowser, login: string, from?: string): Promise<URL>;
  /** Goes there and back to the platform: what that leads to. */
  cameBack(browser: TestBrowser, login: string, from?: string): Promise<URL>;
  exchange(body: object, headers?: object): Promise<Reply>;
  /** As a page of ours does with what came back. */
  exchangeIn(browser: TestBrowser, url: URL, body?: object): Promise<Reply>;
  /** All of it, with the refresh token in the answer. */
  signIn(login: string): Promise<Reply>;
  /** What the log tells of somebody, oldest first. */
  auditOf(userId: string): Promise<[string, unknown][]>;
}

export async function startOidcPlatform(
  options: { database?: Database; smtp?: SmtpSettings } = {},
): Promise<OidcPlatform> {
  const people: People = {};
  const servers: TestServer[] = [];
  const platform = await startPlatformWith(
    async (url) => {
      const settings = [];
      for (const id of ['acme', 'other']) {
        const server = await startOidcServer([`${url}/v1/auth/providers/${id}/callback`], people);
        servers.push(server);
        settings.push(oidcSettings(id, server.url));
      }
      return settings;
    },
    { platform: options },
  );
  const base = platform.controlPlane.url;
  let count = 0;
  const at: OidcPlatform = {
    platform,
    base,
    servers,
    newPerson(known = {}) {
      const login = `person${++count}`;
      const email = `${login}@example.com`;
      people[login] = { email, email_verified: true, name: `Person ${count}`, ...known };
      return { login, email };
    },
    start: (query = '', provider = 'acme') => `${base}/v1/auth/providers/${provider}/start${query}`,
    async goThere(browser, login, from = at.start()) {
      const left = await browser.open(from);
      if (left.status !== 303 || left.location === null) throw new Error(`not begun: ${left.status} ${left.text}`);
      return new URL(await logInAtProvider(browser, left.location, login));
    },
    async cameBack(browser, login, from) {
      const page = await browser.open((await at.goThere(browser, login, from)).href);
      if (page.status !== 303 || page.location === null) throw new Error(`not back: ${page.status} ${page.text}`);
      return new URL(page.location);
    },
    exchange: (body, headers = {}) => callAnonymously(platform, '/v1/auth/exchange', body, headers),
    exchangeIn: (browser, url, body = {}) =>
      at.exchange(
        { code: url.searchParams.get('code'), ...body },
        { cookie: browser.cookiesFor(`${base}/v1/auth/exchange`), origin: base },
      ),
    async signIn(login) {
      const browser = new TestBrowser();
      return at.exchangeIn(browser, await at.cameBack(browser, login), { refresh_token_in: 'body' });
    },
    async auditOf(userId) {
      const admin = await platform.signIn({ isAdmin: true });
      const { items } = (await admin.call('GET', '/v1/admin/audit-logs?limit=200')).body;
      return items
        .filter((item: { resource: { id: string } }) => item.resource.id === userId)
        .map((item: { action: string; metadata: unknown }) => [item.action, item.metadata])
        .reverse();
    },
    async [Symbol.asyncDispose]() {
      await platform[Symbol.asyncDispose]();
      for (const server of servers) await server[Symbol.asyncDispose]();
    },
  };
  return at;
}
