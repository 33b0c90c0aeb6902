import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { callAnonymously } from '../accounts/test-account.ts';
import type { TestPlatform } from '../test-platform.ts';
import { TestBrowser } from './test-browser.ts';
import { client, startPlatformWith, startServer, type TestServer } from './test-servers.ts';

/** Who is signed in at GitHub, as its API tells. */
let user: { id: number; login: string; name: string | null };
let emails: { email: string; primary: boolean; verified: boolean; visibility: string | null }[];
let apiStatus: number;
const challenges = new Map<string, string>();
let server: TestServer;
let platform: TestPlatform;
let base: string;

/** Speaks as https://docs.github.com/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps says, of a GitHub Enterprise Server. */
async function github(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? '/', server.url);
  const json = (body: unknown, status = 200) =>
    response.writeHead(status, { 'content-type': 'application/json; charset=utf-8' }).end(JSON.stringify(body));
  if (url.pathname === '/login/oauth/authorize') {
    const code = `code-${challenges.size}`;
    challenges.set(code, url.searchParams.get('code_challenge') ?? '');
    const back = new URL(url.searchParams.get('redirect_uri') ?? '');
    back.search = String(new URLSearchParams({ code, state: url.searchParams.get('state') ?? '' }));
    response.writeHead(302, { location: back.href }).end();
    return;
  }
  if (url.pathname === '/login/oauth/access_token') {
    const form = new URLSearchParams(await text(request));
    const challenge = challenges.get(form.get('code') ?? '');
    challenges.delete(form.get('code') ?? '');
    const hash = createHash('sha256')
      .update(form.get('code_verifier') ?? '')
      .digest('base64url');
    if (form.get('client_secret') !== client.clientSecret) json({ error: 'incorrect_client_credentials' });
    // GitHub tells errors with 200.
    else if (challenge !== hash) json({ error: 'bad_verification_code', error_description: 'The code is incorrect.' });
    else json({ access_token: 'gho_16C7e42F292c6912E7', scope: 'read:user,user:email', token_type: 'bearer' });
    return;
  }
  const isKnown = request.headers.authorization === 'Bearer gho_16C7e42F292c6912E7';
  if (!isKnown) json({ message: 'Bad credentials', documentation_url: '' }, 401);
  else if (apiStatus !== 200) json({ message: 'no' }, apiStatus);
  else if (url.pathname === '/api/v3/user') json({ ...user, email: null, type: 'User', site_admin: false });
  else if (url.pathname === '/api/v3/user/emails') json(emails);
  else json({ message: 'Not Found' }, 404);
}

beforeAll(async () => {
  server = await startServer();
  server.handle = (request, response) => void github(request, response);
  const settings = {
    id: 'github',
    kind: 'github' as const,
    name: 'GitHub',
    issuer: server.url,
    apiUrl: `${server.url}/api/v3`,
    ...client,
    scopes: ['read:user', 'user:email'],
  };
  platform = await startPlatformWith(async () => [settings, { ...settings, id: 'wrong', clientSecret: 'another' }]);
  base = platform.controlPlane.url;
});
afterAll(async () => {
  await platform?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});

let count = 0;
beforeEach(() => {
  apiStatus = 200;
  const id = ++count;
  user = { id, login: `octocat${id}`, name: null };
  emails = [
    { email: `private${id}@example.com`, primary: false, verified: true, visibility: null },
    { email: `octocat${id}@example.com`, primary: true, verified: true, visibility: 'private' },
    { email: `${id}+octocat@users.noreply.github.com`, primary: false, verified: true, visibility: null },
  ];
});

async function cameBack(
  browser: TestBrowser,
  { provider = 'github', spoil = (_back: URL): void => undefined } = {},
): Promise<URL> {
  const left = await browser.open(`${base}/v1/auth/providers/${provider}/start`);
  const back = new URL((await browser.open(left.location ?? '')).location ?? '');
  spoil(back);
  return new URL((await browser.open(back.href)).location ?? '');
}

async function signIn() {
  const browser = new TestBrowser();
  const code = (await cameBack(browser)).searchParams.get('code');
  return callAnonymously(platform, '/v1/auth/exchange', { code }, { cookie: browser.cookiesFor(base) });
}

test('somebody of GitHub gets an account with their main address, and keeps it under another name and address', async () => {
  const first = await signIn();
  expect(first.body.user).toMatchObject({
    email: `octocat${count}@example.com`,
    name: user.login,
    email_verified: true,
  });
  user = { ...user, login: 'renamed', name: 'Mona Lisa' };
  emails = [{ email: 'new@example.com', primary: true, verified: true, visibility: 'public' }];
  const second = await signIn();
  expect([second.status, second.body.user.id]).toEqual([200, first.body.user.id]);
});

test('another one who takes the name over gets another account', async () => {
  const first = await signIn();
  user = { ...user, id: 1_000 + count };
  emails = [{ email: `heir${count}@example.com`, primary: true, verified: true, visibility: null }];
  const second = await signIn();
  expect([second.status, second.body.user.id === first.body.user.id]).toEqual([200, false]);
});

test('an address that is not proven there counts for nothing', async () => {
  emails = [{ email: 'victim@example.com', primary: true, verified: false, visibility: 'public' }];
  expect((await cameBack(new TestBrowser())).searchParams.get('error')).toBe('email_unverified');
  emails = [...emails, { email: `other${count}@example.com`, primary: false, verified: true, visibility: null }];
  expect((await signIn()).body.user.email).toBe(`other${count}@example.com`);
  emails = [];
  user = { ...user, id: 2_000 + count };
  expect((await cameBack(new TestBrowser())).searchParams.get('error')).toBe('email_unverified');
});

test('what GitHub refuses is told so, in its own way with 200 or by its API', async () => {
  const errorOf = async (options?: Parameters<typeof cameBack>[1]) =>
    (await cameBack(new TestBrowser(), options)).searchParams.get('error');
  expect(await errorOf({ spoil: (back) => back.searchParams.set('code', 'of-nobody') })).toBe('provider_refused');
  expect(await errorOf({ provider: 'wrong' })).toBe('provider_refused');
  const denied = (back: URL) => {
    back.searchParams.delete('code');
    back.searchParams.set('error', 'access_denied');
  };
  expect(await errorOf({ spoil: denied })).toBe('access_denied');
  for (const [status, expected] of [
    [403, 'provider_refused'],
    [429, 'provider_unavailable'],
    [502, 'provider_unavailable'],
  ] as const) {
    apiStatus = status;
    expect([status, await errorOf()]).toEqual([status, expected]);
  }
});
