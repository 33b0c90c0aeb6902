import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestRealApi } from '../test-real-api.ts';

/** Speaks as GitHub does to whoever is signed in there. */
const github = createServer((request, response) => {
  const url = new URL(request.url ?? '/', 'http://127.0.0.1');
  const answers: Record<string, unknown> = {
    '/login/oauth/access_token': { access_token: 'gho_x', token_type: 'bearer', scope: 'user' },
    '/api/v3/user': { id: 7, login: 'octocat', name: 'Octo Cat' },
    '/api/v3/user/emails': [{ email: 'octocat@example.com', primary: true, verified: true }],
  };
  if (url.pathname === '/login/oauth/authorize') {
    const back = new URL(url.searchParams.get('redirect_uri') ?? '');
    back.search = String(new URLSearchParams({ ...answer, state: url.searchParams.get('state') ?? '' }));
    response.writeHead(302, { location: back.href }).end();
  } else response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answers[url.pathname]));
});
/** What the person at GitHub says. */
let answer: Record<string, string> = { code: 'any' };
let api: TestRealApi;
beforeAll(async () => {
  await new Promise<void>((resolve) => github.listen(0, '127.0.0.1', resolve));
  const issuer = `http://127.0.0.1:${(github.address() as AddressInfo).port}`;
  const providers = [{ id: 'github', kind: 'github', issuer, client_id: 'c', client_secret: 's' }];
  api = await TestRealApi.start({ AVIARY_AUTH_PROVIDERS: JSON.stringify(providers) });
}, 90_000);
afterAll(async () => {
  await api?.[Symbol.asyncDispose]();
  github.closeAllConnections();
  github.close();
});

/** Follows links as a browser does, with its cookies, to the page that it ends on. */
async function browse(start: string): Promise<string> {
  const cookies: string[] = [];
  let url = start;
  for (let steps = 0; steps < 10; steps++) {
    const response = await fetch(url, { redirect: 'manual', headers: { cookie: cookies.join('; ') } });
    cookies.push(...response.headers.getSetCookie().map((line) => line.split(';', 1)[0] ?? ''));
    const location = response.headers.get('location');
    if (location === null) return await response.text();
    url = new URL(location, url).href;
  }
  throw new Error('the browser is sent around for ever');
}

/** The program, and what its user sees in the browser. */
async function logIn(who: string, argv: readonly string[] = []) {
  let page: Promise<string> | undefined;
  const ended = await api.run({
    argv: ['login', '--provider', 'github', ...argv],
    extra: { XDG_CONFIG_HOME: path.join(api.directory, who) },
    onNote: (text) => {
      const [url] = /http:\S+\/start\?\S+(?=\s)/.exec(text) ?? [];
      if (url) page ??= browse(url);
    },
  });
  return { ...ended, page: await page };
}

test('somebody logs in by the browser, and the program keeps the session', async () => {
  const { code, stdout, stderr, page } = await logIn('octo');
  expect([code, stdout]).toEqual([0, expect.stringMatching(/^logged in to \S+ as octocat@example.com in the team /)]);
  expect(stderr).toContain('Open this in a browser on this machine');
  expect(page).toBe('Go on at the command line: you can close this page.');
  const extra = { XDG_CONFIG_HOME: path.join(api.directory, 'octo') };
  const run = (...argv: string[]) => api.run({ argv, extra });
  expect((await run('whoami')).stdout).toContain('octocat@example.com (Octo Cat)');
  const { items } = JSON.parse((await run('identity', 'list', '--json')).stdout);
  expect(items).toMatchObject([{ provider: 'github', email: 'octocat@example.com' }]);
  expect((await run('identity', 'list')).stdout).toContain(items[0].id);
  const last = await run('identity', 'unlink', items[0].id);
  expect([last.code, last.stderr]).toEqual([6, expect.stringContaining('the last way in which you can sign in')]);
});

test('somebody who says no there is told so at the command line', async () => {
  answer = { error: 'access_denied' };
  const { code, stdout, stderr, page } = await logIn('no');
  expect([code, stdout]).toEqual([5, '']);
  expect(stderr).toContain('not signed in: the provider was told not to sign you in');
  expect(page).toContain('You are not signed in');
});

test('a provider that the server does not have is refused at once', async () => {
  const { code, stderr } = await api.run({ argv: ['login', '--provider', 'nowhere'] });
  expect([code, stderr]).toEqual([3, expect.stringContaining('it has github')]);
});
