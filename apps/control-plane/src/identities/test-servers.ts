import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import Provider from 'oidc-provider';
import { startTestPlatform, type TestPlatform } from '../test-platform.ts';
import type { ProviderOptions } from './identity-providers.ts';
import type { ProviderSettings } from './provider-settings.ts';
import type { Page, TestBrowser } from './test-browser.ts';

/** For tests: a server on this machine. What it does may be set later. */
export interface TestServer extends AsyncDisposable {
  url: string;
  handle: RequestListener;
}

export async function startServer(): Promise<TestServer> {
  const served: TestServer = {
    url: '',
    handle: (_request, response) => void response.writeHead(500).end(),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  const server = createServer((request, response) => served.handle(request, response));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  served.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return served;
}

/** A port that nobody has now. */
async function freePort(): Promise<number> {
  await using server = await startServer();
  return Number(new URL(server.url).port);
}

/** For tests: a platform on a port that is known before, as providers must know where they send browsers back to. */
export async function startPlatformWith(
  providers: (platformUrl: string) => Promise<ProviderSettings[]>,
  options: { times?: Partial<ProviderOptions>; platform?: Parameters<typeof startTestPlatform>[0] } = {},
): Promise<TestPlatform> {
  const port = await freePort();
  const identityProviders = await providers(`http://127.0.0.1:${port}`);
  const { times, platform = {} } = options;
  return startTestPlatform({
    ...platform,
    config: { ...platform.config, port, identityProviders },
    overrides: { ...platform.overrides, ...(times ? { identityProviders: times } : {}) },
  });
}

export const client = { clientId: 'aviary', clientSecret: 'a secret that is in no log' };

/** What a provider of OpenID Connect is to the platform. */
export function oidcSettings(id: string, issuer: string): ProviderSettings {
  return {
    id,
    kind: 'oidc',
    name: `Test ${id}`,
    issuer,
    apiUrl: issuer,
    ...client,
    scopes: ['openid', 'email', 'profile'],
  };
}

/** People of a provider, by the name that they log in with. */
export type People = Record<string, { email?: string; email_verified?: boolean; name?: string }>;

/** For tests: a real server of OpenID Connect. */
export async function startOidcServer(redirectUris: string[], people: People): Promise<TestServer> {
  const server = await startServer();
  const provider = new Provider(server.url, {
    clients: [{ client_id: client.clientId, client_secret: client.clientSecret, redirect_uris: redirectUris }],
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
    findAccount: async (_context, id) =>
      people[id] && { accountId: id, claims: async () => ({ sub: id, ...people[id] }) },
  });
  server.handle = provider.callback();
  return server;
}

/** For tests: somebody logs in at the real server and agrees; where the browser is then sent to. */
export async function logInAtProvider(browser: TestBrowser, start: string, login: string): Promise<string> {
  const { origin } = new URL(start);
  let page: Page = await browser.open(start);
  for (let steps = 0; steps < 12; steps++) {
    if (page.location !== null) {
      if (new URL(page.location).origin !== origin) return page.location;
      page = await browser.open(page.location);
      continue;
    }
    const [, action] = /<form[^>]* action="([^"]+)"/.exec(page.text) ?? [];
    const [, prompt] = /name="prompt" value="(\w+)"/.exec(page.text) ?? [];
    if (!action || !prompt) throw new Error(`no form at the provider: ${page.status} ${page.text.slice(0, 500)}`);
    page = await browser.open(new URL(action, origin).href, { form: { prompt, login, password: 'any' } });
  }
  throw new Error('the provider goes on for ever');
}
