import { VirtualClock } from '@aviary/service-kit/virtual-clock';
import { afterEach, describe, expect, test } from 'vitest';
import { startTestPlatform, type TestPlatform } from '../test-platform.ts';
import { defaultRateLimits, RateLimits } from './rate-limits.ts';
import { TokenBuckets } from './token-buckets.ts';

const perMinute = (max: number) => ({ max, windowMs: 60_000 });
const none = { perKey: 0, perUser: 0, perTeam: 0, perAddress: 0 };

describe('a bucket', () => {
  test('gives what a minute fills, at once and then evenly', async () => {
    const clock = new VirtualClock(1_000);
    const buckets = new TokenBuckets(clock);
    for (const remaining of [5, 4, 3, 2, 1, 0])
      expect(buckets.take('a', perMinute(6))).toMatchObject({ limit: 6, remaining, retryAfterSec: null });
    expect(buckets.take('a', perMinute(6))).toEqual({ limit: 6, remaining: 0, resetSec: 60, retryAfterSec: 10 });
    expect(buckets.take('b', perMinute(6)).remaining).toBe(5);
    await clock.advance(9_000);
    expect(buckets.take('a', perMinute(6)).retryAfterSec).toBe(1);
    await clock.advance(1_000);
    expect(buckets.take('a', perMinute(6)).retryAfterSec).toBeNull();
    await clock.advance(3_600_000);
    expect(buckets.take('a', perMinute(6))).toMatchObject({ remaining: 5, resetSec: 10 });
  });

  test('of a clock that is set back is not filled', () => {
    let now = 60_000;
    const buckets = new TokenBuckets({ now: () => now });
    buckets.take('a', perMinute(1));
    now = 0;
    expect(buckets.take('a', perMinute(1)).retryAfterSec).toBe(60);
  });

  test('goes when it is the one that nobody used for longest', () => {
    const buckets = new TokenBuckets(new VirtualClock(), { maxBuckets: 2 });
    for (const name of ['a', 'b', 'a', 'c']) buckets.take(name, perMinute(2));
    expect(buckets.size).toBe(2);
    expect(buckets.take('a', perMinute(2)).retryAfterSec).toBe(30);
    expect(buckets.take('b', perMinute(2)).remaining).toBe(1);
  });
});

test.each([
  ['2001:db8:1:2::1', '2001:db8:1:2:ffff::9', true],
  ['2001:db8::1', '2001:db8:0:0:5::', true],
  ['2001:db8:1:2::1', '2001:db8:1:3::1', false],
  ['::ffff:10.0.0.1', '10.0.0.1', true],
  ['10.0.0.1', '10.0.0.2', false],
])('%s and %s are one caller: %s', (one, other, isSame) => {
  const limits = new RateLimits(new VirtualClock(), { ...none, perAddress: 1 });
  limits.takeAddress(one);
  const again = () => limits.takeAddress(other);
  if (isSame) expect(again).toThrow(/too many requests from your address/);
  else expect(again).not.toThrow();
});

describe('the API', () => {
  let platform: TestPlatform;
  afterEach(() => platform?.[Symbol.asyncDispose]());
  const start = async (limits: Partial<typeof none>) => {
    const clock = new VirtualClock(Date.now());
    const rateLimits = new RateLimits(clock, { ...none, ...limits });
    platform = await startTestPlatform({ overrides: { rateLimits } });
    return clock;
  };

  test('says what is left, refuses one too many and takes the next when it said so', async () => {
    const clock = await start({ perKey: 2 });
    const list = () => platform.call('GET', '/v1/sandboxes');
    const { headers } = await list();
    expect(['limit', 'remaining', 'reset'].map((name) => headers.get(`ratelimit-${name}`))).toEqual(['2', '1', '30']);
    await list();
    const refused = await list();
    expect([refused.status, refused.body.error.code]).toEqual([429, 'rate_limited']);
    expect(refused.body.error.details).toEqual({ limit_per_minute: 2 });
    expect(['retry-after', 'ratelimit-remaining'].map((name) => refused.headers.get(name))).toEqual(['30', '0']);
    expect((await platform.call('GET', '/v1/sandboxes', { key: await platform.createTeam() })).status).toBe(200);
    await clock.advance(30_000);
    expect((await list()).status).toBe(200);
  });

  test("counts a person's requests, and those of a team by whoever sends them", async () => {
    await start({ perUser: 2, perTeam: 3 });
    const { teamId } = platform;
    const [one, other] = [await platform.signIn({ teamId }), await platform.signIn({ teamId, role: 'member' })];
    const statuses = [];
    for (const call of [one.call, one.call, one.call, other.call, other.call])
      statuses.push((await call('GET', '/v1/sandboxes')).status);
    expect(statuses).toEqual([200, 200, 429, 200, 429]);
  });

  test('counts an address where nobody is asked who they are, but never keeps a probe from the truth', async () => {
    await start({ perAddress: 3 });
    const refresh = () => platform.call('POST', '/v1/hosts/auth/refresh', { key: '', body: { refresh_token: 'x' } });
    // The host of the test platform has registered from here.
    expect([(await refresh()).status, (await refresh()).status, (await refresh()).status]).toEqual([401, 401, 429]);
    expect((await platform.call('GET', '/health', { key: '' })).status).toBe(200);
    expect((await platform.call('GET', '/v1/sandboxes')).status).toBe(200);
  });

  test('counts pages and what is not there apart from what is asked of the API', async () => {
    await start({ perAddress: 2 });
    const get = async (path: string) =>
      (await fetch(`${platform.controlPlane.url}${path}`, { redirect: 'manual' })).status;
    expect([await get('/nothing'), await get('/v1/nothing?page=2'), await get('/v1/nothing')]).toEqual([404, 404, 429]);
    for (const page of ['/', '/docs', '/docs/static/index.html', '/openapi.json', '/openapi.yaml'])
      expect([page, await get(page)]).toEqual([page, 429]);
    expect(await get('/health')).toBe(200);
    const logIn = { key: '', body: { email: 'nobody@example.com', password: 'a good password' } };
    expect((await platform.call('POST', '/v1/auth/login', logIn)).status).toBe(401);
    expect((await platform.call('GET', '/v1/sandboxes')).status).toBe(200);
  });

  test('slows an address that guesses credentials, and not those who share it', async () => {
    await start({ perAddress: 2 });
    const guess = (key: string) => platform.call('GET', '/v1/sandboxes', { key });
    expect((await guess('avy_1')).status).toBe(401);
    expect((await guess('avy_2')).status).toBe(401);
    expect((await guess('avy_3')).status).toBe(429);
    expect((await guess(platform.apiKey)).status).toBe(200);
  });
});

test('by default a key may do a hundred times what a stranger may', () => {
  expect(defaultRateLimits.perKey / defaultRateLimits.perAddress).toBeGreaterThanOrEqual(100);
});
