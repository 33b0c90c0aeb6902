import { createHash, randomBytes } from 'node:crypto';
import { parseId } from '@aviary/core';
import { type TOTP, URI } from 'otpauth';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { accountOf, callAnonymously, signUpAs } from '../accounts/test-account.ts';
import type { TestPlatform } from '../test-platform.ts';
import { TestBrowser } from './test-browser.ts';
import { type OidcPlatform, startOidcPlatform } from './test-oidc-platform.ts';
import { logInAtProvider } from './test-servers.ts';

let at: OidcPlatform;
let platform: TestPlatform;
let base: string;
beforeAll(async () => {
  at = await startOidcPlatform();
  ({ platform, base } = at);
});
afterAll(() => at?.[Symbol.asyncDispose]());

test('providers are told to anybody, without what is secret of them', async () => {
  const { status, body } = await platform.call('GET', '/v1/auth/providers', { key: '' });
  expect([status, body]).toEqual([
    200,
    {
      items: [
        { id: 'acme', kind: 'oidc', name: 'Test acme', start_url: at.start() },
        { id: 'other', kind: 'oidc', name: 'Test other', start_url: at.start('', 'other') },
      ],
    },
  ]);
});

describe('somebody unknown', () => {
  test('gets an account, a team and a session; the second time it is the same account', async () => {
    const { login, email } = at.newPerson({ name: 'Ada \u0000Love\nlace ' });
    const browser = new TestBrowser();
    const url = await at.cameBack(browser, login, at.start('?return_to=/settings%3Ftab%3Done'));
    expect([url.origin, url.pathname, [...url.searchParams.keys()]]).toEqual([base, '/settings', ['tab', 'code']]);
    const reply = await at.exchangeIn(browser, url);
    expect([reply.status, reply.body.refresh_token]).toEqual([200, undefined]);
    expect(reply.body).toMatchObject({
      user: { email, email_verified: true, name: 'Ada Love lace', is_admin: false },
      team: { name: "Ada Love lace's team", role: 'owner' },
    });
    const cookies = reply.headers.getSetCookie();
    expect(cookies).toContainEqual(expect.stringMatching(/^aviary_refresh=avys_.*SameSite=Strict$/));
    expect(cookies).toContainEqual(expect.stringMatching(/^aviary_sign_in=; Path=\/; Max-Age=0/));

    const again = await at.signIn(login);
    expect(again.body.user.id).toBe(reply.body.user.id);
    const me = await accountOf(platform, again).call('GET', '/v1/me');
    expect(me.body.has_password).toBe(false);
    const [signUp, link, logIn, second] = await at.auditOf(again.body.user.id);
    expect([signUp?.[0], link?.[0], logIn, second]).toEqual([
      'user.sign_up',
      'user.identity_link',
      ['user.log_in', { method: 'provider:acme' }],
      ['user.log_in', { method: 'provider:acme' }],
    ]);
  });

  test('is nobody without an address that the provider vouches for', async () => {
    for (const known of [{ email_verified: false }, { email: 'no address' }]) {
      const { login } = at.newPerson(known);
      const url = await at.cameBack(new TestBrowser(), login);
      expect(url.searchParams.get('error')).toBe('email_unverified');
      expect(url.searchParams.get('error_description')).toMatch(/verify one there/);
    }
  });

  test('gets no account that has their address already; its owner logs in and links', async () => {
    const { login, email } = at.newPerson();
    const owner = await signUpAs(platform, email.toUpperCase());
    const url = await at.cameBack(new TestBrowser(), login);
    expect([url.searchParams.get('error'), url.searchParams.has('code')]).toEqual(['email_taken', false]);
    expect((await owner.call('GET', '/v1/me/identities')).body.items).toEqual([]);
  });

  test('who says no at the provider is told so', async () => {
    const browser = new TestBrowser();
    const left = await browser.open(at.start());
    const form = await browser.open((await browser.open(left.location ?? '')).location ?? '');
    const [, abort] = /href="([^"]+\/abort)"/.exec(form.text) ?? [];
    const resumed = await browser.open(new URL(abort ?? '', left.location ?? '').href);
    const back = await browser.open(resumed.location ?? '');
    expect(new URL(back.location ?? '').searchParams.get('error')).toBe('access_denied');
    const page = await browser.open(back.location ?? '');
    expect(new URL(page.location ?? '').searchParams.get('error')).toBe('access_denied');
  });

  test('of two at once who are the same, both get the same account', async () => {
    const { login } = at.newPerson();
    const browsers = [new TestBrowser(), new TestBrowser()];
    const backs = await Promise.all(
      browsers.map(async (browser) => {
        const left = await browser.open(at.start());
        return { browser, back: await logInAtProvider(browser, left.location ?? '', login) };
      }),
    );
    const replies = await Promise.all(
      backs.map(async ({ browser, back }) =>
        at.exchangeIn(browser, new URL((await browser.open(back)).location ?? '')),
      ),
    );
    expect(replies.map(({ status }) => status)).toEqual([200, 200]);
    expect(new Set(replies.map(({ body }) => body.user.id)).size).toBe(1);
  });
});

describe('what comes back', () => {
  const back = (browser: TestBrowser) => at.goThere(browser, at.newPerson().login);
  const refused = async (browser: TestBrowser, url: URL) => {
    const page = await browser.open(url.href);
    expect([page.status, page.location, JSON.parse(page.text).error.code]).toEqual([400, null, 'invalid_request']);
  };

  test('counts in the browser that began, once', async () => {
    const browser = new TestBrowser();
    const url = await back(browser);
    // A victim who is led there, and one who has a sign-in of their own under way.
    await refused(new TestBrowser(), url);
    const victim = new TestBrowser();
    await victim.open(at.start());
    await refused(victim, url);
    expect((await browser.open(url.href)).status).toBe(303);
    await refused(browser, url);
  });

  test('counts for its own provider, with the state as it was given', async () => {
    const browser = new TestBrowser();
    const url = await back(browser);
    const tampered = new URL(url);
    tampered.searchParams.set('state', `${url.searchParams.get('state')}0`);
    await refused(browser, tampered);
    tampered.searchParams.delete('state');
    await refused(browser, tampered);
    await refused(browser, new URL(url.href.replace('/acme/', '/other/')));
    await refused(browser, new URL(`${base}/v1/auth/providers/acme/callback`));
    expect((await browser.open(url.href)).status).toBe(303);
  });

  test('from another issuer, twice the same parameter, or with a code of somebody else, is refused', async () => {
    for (const spoil of [
      (url: URL) => url.searchParams.set('iss', 'https://evil.example'),
      (url: URL) => url.searchParams.delete('iss'),
      (url: URL) => url.searchParams.set('code', 'of-nobody'),
    ]) {
      const browser = new TestBrowser();
      const url = await back(browser);
      spoil(url);
      const page = await browser.open(url.href);
      expect(new URL(page.location ?? '').searchParams.get('error')).toBe('provider_refused');
    }
    const [mine, theirs] = [new TestBrowser(), new TestBrowser()];
    const [own, stolen] = [await back(mine), await back(theirs)];
    own.searchParams.set('code', stolen.searchParams.get('code') ?? '');
    // PKCE: the code is of another sign-in.
    expect(new URL((await mine.open(own.href)).location ?? '').searchParams.get('error')).toBe('provider_refused');
    const twice = new TestBrowser();
    const doubled = await back(twice);
    doubled.searchParams.append('state', 'x');
    expect((await twice.open(doubled.href)).status).toBe(400);
  });

  test('leads to pages of this site alone', async () => {
    const pages = ['//evil.example', '/\\evil.example', '/\t/evil.example', 'https://evil.example', 'evil', '/%00'];
    for (const page of [...pages, '/..//evil.example/..//x@evil']) {
      const reply = await new TestBrowser().open(at.start(`?return_to=${encodeURIComponent(page)}`));
      const target = reply.status === 303 ? await storedTarget() : base;
      expect([page, new URL(target).origin]).toEqual([page, base]);
      if (pages.slice(0, 5).includes(page)) expect([page, reply.status]).toEqual([page, 400]);
    }
  });
});

async function storedTarget(): Promise<string> {
  const { return_to } = await platform.database.db
    .selectFrom('sign_in_attempts')
    .select('return_to')
    .orderBy('created_at', 'desc')
    .limit(1)
    .executeTakeFirstOrThrow();
  return return_to;
}

describe('a code', () => {
  test('is good once, for the browser that began, and for a page of this site', async () => {
    const browser = new TestBrowser();
    const url = await at.cameBack(browser, at.newPerson().login);
    const code = url.searchParams.get('code');
    const cookie = browser.cookiesFor(base);
    expect((await at.exchange({ code })).status).toBe(401);
    expect((await at.exchange({ code }, { cookie: 'aviary_sign_in=0' })).status).toBe(401);
    expect((await at.exchange({ code }, { cookie, origin: 'https://evil.example' })).status).toBe(403);
    expect((await at.exchange({ code: 'avyx_0' }, { cookie })).status).toBe(401);
    expect((await at.exchange({ code, code_verifier: 'v'.repeat(43) }, { cookie })).status).toBe(401);
    expect((await at.exchange({ code }, { cookie })).status).toBe(200);
    expect((await at.exchange({ code }, { cookie })).status).toBe(401);
  });

  test('comes to a program on the same machine, which proves that it began', async () => {
    const verifier = randomBytes(32).toString('base64url');
    const challenge = createHash('sha256').update(verifier).digest('base64url');
    const browser = new TestBrowser();
    const query = `?redirect_port=45678&code_challenge=${challenge}`;
    const url = await at.cameBack(browser, at.newPerson().login, at.start(query));
    expect([url.origin, url.pathname]).toEqual(['http://127.0.0.1:45678', '/callback']);
    const code = url.searchParams.get('code');
    expect((await at.exchange({ code }, { cookie: browser.cookiesFor(base) })).status).toBe(401);
    expect((await at.exchange({ code, code_verifier: `${verifier}0` })).status).toBe(401);
    const reply = await at.exchange({ code, code_verifier: verifier, refresh_token_in: 'body' });
    expect([reply.status, reply.headers.getSetCookie()]).toEqual([200, []]);
    expect((await accountOf(platform, reply).call('GET', '/v1/me')).status).toBe(200);
  });

  test('goes to a program only with both that it needs', async () => {
    const challenge = 'c'.repeat(43);
    for (const query of [
      '?redirect_port=45678',
      `?code_challenge=${challenge}`,
      `?redirect_port=45678&code_challenge=${challenge}&return_to=/`,
      `?redirect_port=0&code_challenge=${challenge}`,
      '?redirect_port=45678&code_challenge=short',
    ])
      expect([query, (await new TestBrowser().open(at.start(query))).status]).toEqual([query, 400]);
  });

  test('opens nothing for an account that was closed meanwhile, nor is one given for a closed account', async () => {
    const { login } = at.newPerson();
    const browser = new TestBrowser();
    const url = await at.cameBack(browser, login);
    const reply = await at.exchangeIn(browser, url);
    const next = await at.cameBack(browser, login);
    await platform.database.db
      .updateTable('users')
      .set({ status: 'deactivated' })
      .where('id', '=', parseId('user', reply.body.user.id))
      .execute();
    expect((await at.exchangeIn(browser, next)).status).toBe(403);
    const closed = await at.cameBack(browser, login);
    expect(closed.searchParams.get('error')).toBe('account_deactivated');
    expect((await at.auditOf(reply.body.user.id)).at(-1)).toEqual([
      'user.log_in_failed',
      { method: 'provider:acme', reason: 'account_deactivated' },
    ]);
  });
});

test('an account with a second factor is asked for it, however it is signed in to', async () => {
  const { login } = at.newPerson();
  const user = accountOf(platform, await at.signIn(login));
  const app = URI.parse((await user.call('POST', '/v1/me/totp')).body.otpauth_uri) as TOTP;
  const confirmed = await user.call('POST', '/v1/me/totp/confirm', { code: app.generate() });
  expect(confirmed.status).toBe(200);
  expect((await user.call('POST', '/v1/me/identities', { provider: 'acme' })).status).toBe(403);
  const { status, body } = await at.signIn(login);
  expect([status, body.access_token, body.methods]).toEqual([202, undefined, ['totp', 'recovery_code']]);
  const [code] = confirmed.body.recovery_codes;
  const completed = await callAnonymously(platform, '/v1/auth/second-factor', { challenge: body.challenge, code });
  expect([completed.status, completed.body.user.id]).toEqual([200, user.userId]);
  expect((await at.auditOf(user.userId)).at(-1)).toEqual([
    'user.log_in',
    { method: 'provider:acme', second_factor: 'recovery_code' },
  ]);
});

test('a deleted account’s identity is free again', async () => {
  const { login } = at.newPerson();
  const first = await at.signIn(login);
  await platform.database.db
    .updateTable('users')
    .set({ status: 'deleted', deleted_at: new Date() })
    .where('id', '=', parseId('user', first.body.user.id))
    .execute();
  const second = await at.signIn(login);
  expect(second.status).toBe(200);
  expect(second.body.user.id).not.toBe(first.body.user.id);
  expect((await at.signIn(login)).body.user.id).toBe(second.body.user.id);
});

test('a page begins by itself, and not one of another site', async () => {
  const url = '/v1/auth/providers/acme/start';
  const reply = await callAnonymously(platform, url, { return_to: '/a' }, { origin: base });
  expect([reply.status, new URL(reply.body.authorization_url).origin]).toEqual([200, at.servers[0]?.url]);
  const sent = new URL(reply.body.authorization_url).searchParams;
  expect([sent.get('code_challenge_method'), sent.get('scope')]).toEqual(['S256', 'openid email profile']);
  expect(sent.get('nonce')).not.toBe(sent.get('state'));
  expect(reply.headers.getSetCookie()).toEqual([
    expect.stringMatching(/^aviary_sign_in=[0-9a-f]{40}; Path=\/; Max-Age=600; HttpOnly; SameSite=Lax$/),
  ]);
  expect((await callAnonymously(platform, url, {}, { origin: 'https://evil.example' })).status).toBe(403);
  expect((await callAnonymously(platform, '/v1/auth/providers/none/start', {})).status).toBe(404);
});
