import { createHmac } from 'node:crypto';
import { inspect } from 'node:util';
import { type Clock, type Logger, silentLogger, systemClock } from '@aviary/service-kit';
import { generateKeyPair, type JWTPayload, SignJWT } from 'jose';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { deleteExpiredSignInCodes } from '../accounts/sign-in-code-store.ts';
import { callAnonymously } from '../accounts/test-account.ts';
import type { Db } from '../context.ts';
import type { TestPlatform } from '../test-platform.ts';
import { deleteExpiredAttempts } from './attempt-store.ts';
import { TestBrowser } from './test-browser.ts';
import { json, type RogueIssuer, startRogueIssuer } from './test-rogue-issuer.ts';
import { client, oidcSettings, startPlatformWith } from './test-servers.ts';

let aheadMs = 0;
const clock: Clock = { ...systemClock, now: () => Date.now() + aheadMs };
const logged: string[] = [];
const keep = (...args: unknown[]) =>
  void logged.push(inspect(args, { depth: 12, breakLength: Number.POSITIVE_INFINITY }));
const logger: Logger = Object.assign(Object.create(silentLogger), { info: keep, warn: keep, error: keep });

let issuer: RogueIssuer;
let platform: TestPlatform;
let base: string;
beforeAll(async () => {
  issuer = await startRogueIssuer();
  platform = await startPlatformWith(async () => [oidcSettings('rogue', issuer.url)], {
    times: { requestMs: 400, signInMs: 700 },
    platform: { overrides: { clock, logger } },
  });
  base = platform.controlPlane.url;
});
afterAll(async () => {
  await platform?.[Symbol.asyncDispose]();
  await issuer?.[Symbol.asyncDispose]();
});
beforeEach(() => {
  // What the provider said of itself is asked for again.
  aheadMs += 2 * 3_600_000;
  issuer.isDown = false;
  issuer.asked.length = 0;
  issuer.answers.set('/userinfo', json({ sub: 'somebody', email: 'somebody@example.com', email_verified: true }));
});

interface Begun {
  browser: TestBrowser;
  state: string;
  nonce: string;
}

const startUrl = '/v1/auth/providers/rogue/start';

async function begin(): Promise<Begun> {
  const browser = new TestBrowser();
  const { status, location, text } = await browser.open(`${base}${startUrl}`);
  expect([status, text]).toEqual([303, '']);
  const { searchParams } = new URL(location ?? '');
  return { browser, state: searchParams.get('state') ?? '', nonce: searchParams.get('nonce') ?? '' };
}

/** What comes of coming back with `query`: `code`, or the error. */
async function comeBack({ browser, state }: Begun, query: Record<string, string> = { code: 'any' }): Promise<string> {
  const search = new URLSearchParams({ state, ...query });
  const page = await browser.open(`${base}/v1/auth/providers/rogue/callback?${search}`);
  expect([page.status, page.text]).toEqual([303, '']);
  const { searchParams, origin } = new URL(page.location ?? '');
  expect(origin).toBe(base);
  return searchParams.has('code') ? 'code' : (searchParams.get('error') ?? '');
}

const tokens = (id_token: unknown) => json({ access_token: 'opaque-token', token_type: 'Bearer', id_token });

/** What comes of a sign-in with an id token that is made of good claims. */
async function signInBy(make: (claims: JWTPayload) => Promise<unknown>): Promise<string> {
  const begun = await begin();
  issuer.answers.set('/token', tokens(await make(issuer.claims(begun.nonce))));
  return comeBack(begun);
}

const deleteExpired = async (db: Db, now: Date) => {
  await deleteExpiredAttempts(db, now);
  await deleteExpiredSignInCodes(db, now);
};

const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');

test('a good id token signs in', async () => {
  expect(await signInBy((claims) => issuer.sign(claims))).toBe('code');
});

describe('an id token', () => {
  const past = Math.floor(Date.now() / 1000) - 3_600;
  test.each<[string, Record<string, unknown>]>([
    ['of another issuer', { iss: 'https://evil.example' }],
    ['for another client', { aud: 'another' }],
    ['for several, of which we are not the one', { aud: ['aviary', 'another'], azp: 'another' }],
    ['of another sign-in', { nonce: 'another' }],
    ['of no sign-in', { nonce: undefined }],
    ['that has expired', { iat: past - 60, exp: past }],
    ['without an end', { exp: undefined }],
    ['of nobody', { sub: undefined }],
  ])('%s is refused', async (_name, change) => {
    expect(await signInBy((claims) => issuer.sign({ ...claims, ...change }))).toBe('provider_refused');
  });

  test('that nobody signed is refused, also where the provider says that it does so', async () => {
    for (const alg of ['none', 'None'])
      expect(await signInBy(async (claims) => `${encode({ alg })}.${encode(claims)}.`)).toBe('provider_refused');
  });

  test('that somebody else signed is refused, whatever key it names', async () => {
    const { privateKey } = await generateKeyPair('RS256');
    for (const kid of ['first', 'second'])
      expect(
        await signInBy((claims) => new SignJWT(claims).setProtectedHeader({ alg: 'RS256', kid }).sign(privateKey)),
      ).toBe('provider_refused');
  });

  test('that is signed by what others know is refused', async () => {
    const jwks = await (await fetch(`${issuer.url}/jwks`)).text();
    for (const secret of [client.clientSecret, JSON.stringify(JSON.parse(jwks).keys[0])]) {
      const signed = await signInBy(async (claims) => {
        const text = `${encode({ alg: 'HS256', kid: 'first' })}.${encode(claims)}`;
        return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`;
      });
      expect(signed).toBe('provider_refused');
    }
  });

  test('that is missing or no text is refused', async () => {
    for (const idToken of [undefined, null, 7, '', 'x.y.z'])
      expect(await signInBy(async () => idToken)).toBe('provider_refused');
  });

  test('is not filled up by what is told of somebody else', async () => {
    issuer.answers.set('/userinfo', json({ sub: 'another', email: 'admin@example.com', email_verified: true }));
    expect(await signInBy((claims) => issuer.sign({ ...claims, email: undefined }))).toBe('provider_refused');
  });

  test('vouches for an address only in so many words', async () => {
    for (const email_verified of [false, 'false', 'yes', 1, null, {}]) {
      issuer.answers.set('/userinfo', json({ sub: 'unproven', email: 'unproven@example.com', email_verified }));
      const change = { sub: 'unproven', email: 'unproven@example.com', email_verified };
      expect(await signInBy((claims) => issuer.sign({ ...claims, ...change }))).toBe('email_unverified');
    }
    const change = { sub: 'as-text', email: 'as-text@example.com', email_verified: 'true' };
    expect(await signInBy((claims) => issuer.sign({ ...claims, ...change }))).toBe('code');
  });
});

describe('a provider', () => {
  test('that answers well and without measure is not read to the end', async () => {
    const signInWith = async (padding: number) => {
      const begun = await begin();
      const id_token = await issuer.sign(issuer.claims(begun.nonce));
      issuer.answers.set('/token', json({ access_token: 'a', token_type: 'Bearer', id_token, x: 'x'.repeat(padding) }));
      return comeBack(begun);
    };
    expect([await signInWith(500_000), await signInWith(1024 * 1024)]).toEqual(['code', 'provider_refused']);
  });

  test.each<[string, Parameters<typeof issuer.answers.set>[1], string]>([
    ['that fails', json({ error: 'server_error' }, 500), 'provider_unavailable'],
    ['that is busy', (_request, response) => void response.writeHead(503).end('<html>'), 'provider_unavailable'],
    ['that is asked too often', json({ error: 'slow_down' }, 429), 'provider_unavailable'],
    ['that hangs up', (request) => void request.socket.destroy(), 'provider_unavailable'],
    ['that never answers', () => undefined, 'provider_unavailable'],
    [
      'that never ends its answer',
      (_request, response) => void response.writeHead(200, { 'content-type': 'application/json' }).write('{'),
      'provider_unavailable',
    ],
    ['that knows no such code', json({ error: 'invalid_grant' }, 400), 'provider_refused'],
    ['that does not know us', json({ error: 'invalid_client' }, 401), 'provider_refused'],
    ['that answers a page', (_request, response) => void response.writeHead(200).end('<html>'), 'provider_refused'],
    [
      'that sends us elsewhere',
      (_request, response) => void response.writeHead(307, { location: '/elsewhere' }).end(),
      'provider_refused',
    ],
  ])('%s is told so', async (_name, answer, expected) => {
    const begun = await begin();
    issuer.answers.set('/token', answer);
    issuer.asked.length = 0;
    expect(await comeBack(begun)).toBe(expected);
    expect(issuer.asked).toEqual(['/token']);
  });

  test.each([
    ['access_denied', 'access_denied'],
    ['temporarily_unavailable', 'provider_unavailable'],
    ['server_error', 'provider_unavailable'],
    ['interaction_required', 'provider_refused'],
    ['<script>alert(1)</script>', 'provider_refused'],
  ])('that says %s is not asked again', async (error, expected) => {
    const begun = await begin();
    issuer.asked.length = 0;
    expect(await comeBack(begun, { error, error_description: '<b>words of others</b>' })).toBe(expected);
    expect(issuer.asked).toEqual([]);
  });
});

describe('when a sign-in begins, a provider', () => {
  /** A platform that has not asked its provider yet. */
  const startFresh = async () => {
    const provider = await startRogueIssuer();
    const fresh = await startPlatformWith(async () => [oidcSettings('rogue', provider.url)], {
      times: { requestMs: 400 },
      platform: { overrides: { clock, logger } },
    });
    return {
      provider,
      start: () => callAnonymously(fresh, startUrl, {}),
      async [Symbol.asyncDispose]() {
        await fresh[Symbol.asyncDispose]();
        await provider[Symbol.asyncDispose]();
      },
    };
  };

  test('that is down is told at once, and asked again a little later', async () => {
    await using fresh = await startFresh();
    const { provider, start } = fresh;
    provider.isDown = true;
    for (const { status, headers, body } of [await start(), await start()]) {
      expect([status, body.error.code, headers.get('retry-after')]).toEqual([
        503,
        'provider_unavailable',
        expect.stringMatching(/^[1-5]$/),
      ]);
      expect(body.error.message).toMatch(/^Test rogue does not answer/);
    }
    expect(provider.asked).toHaveLength(1);
    provider.isDown = false;
    aheadMs += 6_000;
    expect((await Promise.all([start(), start()])).map(({ status }) => status)).toEqual([200, 200]);
    expect(provider.asked).toHaveLength(2);
    // Once known it is not asked again for an hour, and what it said last counts while it is down.
    aheadMs += 50 * 60_000;
    expect((await start()).status).toBe(200);
    expect(provider.asked).toHaveLength(2);
    aheadMs += 11 * 60_000;
    provider.isDown = true;
    expect((await start()).status).toBe(200);
    expect(provider.asked).toHaveLength(3);
  });

  test('that says it is another, or nothing in time, is none', async () => {
    await using fresh = await startFresh();
    const { provider, start } = fresh;
    const status = async () => {
      aheadMs += 10_000;
      return (await start()).status;
    };
    const good = { ...provider.document };
    provider.document['issuer'] = 'https://evil.example';
    expect(await status()).toBe(503);
    provider.answers.set('/.well-known/openid-configuration', () => undefined);
    expect(await status()).toBe(503);
    provider.answers.set('/.well-known/openid-configuration', json(good));
    expect(await status()).toBe(200);
  });
});

test('where people come by TLS, the cookie is of their host alone, and they are sent back there', async () => {
  await using fresh = await startPlatformWith(async () => [oidcSettings('rogue', issuer.url)], {
    platform: { config: { publicUrl: new URL('https://aviary.example.com') } },
  });
  const { body, headers } = await callAnonymously(fresh, startUrl, {});
  expect(headers.getSetCookie()).toEqual([
    expect.stringMatching(/^__Host-aviary_sign_in=[0-9a-f]{40}; Path=\/; Max-Age=600; HttpOnly; SameSite=Lax; Secure$/),
  ]);
  const { body: listed } = await fresh.call('GET', '/v1/auth/providers', { key: '' });
  expect(listed.items[0].start_url).toBe(`https://aviary.example.com${startUrl}`);
  const { searchParams } = new URL(body.authorization_url);
  expect(searchParams.get('redirect_uri')).toBe('https://aviary.example.com/v1/auth/providers/rogue/callback');
});

test('a sign-in is over after ten minutes, and its code after one', async () => {
  const late = await begin();
  aheadMs += 10 * 60_000 + 1_000;
  const { browser, state } = late;
  const page = await browser.open(`${base}/v1/auth/providers/rogue/callback?code=any&state=${state}`);
  expect([page.status, JSON.parse(page.text).error.message]).toEqual([400, expect.stringMatching(/took too long/)]);
  const begun = await begin();
  issuer.answers.set('/token', tokens(await issuer.sign(issuer.claims(begun.nonce))));
  const search = new URLSearchParams({ state: begun.state, code: 'any' });
  const back = await begun.browser.open(`${base}/v1/auth/providers/rogue/callback?${search}`);
  const code = new URL(back.location ?? '').searchParams.get('code');
  aheadMs += 61_000;
  const cookie = begun.browser.cookiesFor(base);
  expect((await callAnonymously(platform, '/v1/auth/exchange', { code }, { cookie })).status).toBe(401);
  const { db } = platform.database;
  const left = async () => [
    (await db.selectFrom('sign_in_attempts').select('expires_at').execute()).length,
    (await db.selectFrom('sign_in_codes').select('expires_at').execute()).length,
  ];
  await deleteExpired(db, new Date(clock.now() - 3 * 3_600_000));
  expect((await left()).every((count) => count > 0)).toBe(true);
  await begin();
  await deleteExpired(db, new Date(clock.now()));
  expect(await left()).toEqual([1, 0]);
});

test('nothing of all this is in the log that is secret, and what went wrong is', () => {
  const log = logged.join('\n');
  expect(log).toContain('invalid_client');
  expect(log).toContain('cannot be asked what it is');
  for (const secret of [client.clientSecret, encodeURIComponent(client.clientSecret), 'opaque-token', 'eyJ'])
    expect(log).not.toContain(secret);
});
