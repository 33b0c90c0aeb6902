import { request } from 'node:http';
import { expect, test } from 'vitest';
import { EnvReader } from './env-config.ts';
import { silentLogger } from './logger.ts';
import { serveMetrics } from './metrics-server.ts';
import { readMetricsSettings } from './metrics-settings.ts';

const loopback = { host: '127.0.0.1', port: 0 };
const read = (env: Record<string, string>) => readMetricsSettings(new EnvReader(env), 'AVIARY_METRICS');

test('listens nowhere unless told, on loopback unless told, and never beyond it without a token', () => {
  expect(read({})).toBeUndefined();
  expect(read({ AVIARY_METRICS_ADDRESS: '9464' })).toEqual({ host: '127.0.0.1', port: 9464, token: undefined });
  expect(read({ AVIARY_METRICS_ADDRESS: '[::1]:9464' })).toMatchObject({ host: '::1', port: 9464 });
  for (const AVIARY_METRICS_ADDRESS of ['0.0.0.0:9464', '[::]:9464', '10.0.0.1:9464', '127.evil.example:9464'])
    expect(() => read({ AVIARY_METRICS_ADDRESS })).toThrow('set AVIARY_METRICS_TOKEN as well');
  const token = 'a-token-that-is-long';
  expect(read({ AVIARY_METRICS_ADDRESS: '0.0.0.0:9464', AVIARY_METRICS_TOKEN: token })).toMatchObject({ token });
  expect(() => read({ AVIARY_METRICS_ADDRESS: '9464', AVIARY_METRICS_TOKEN: 'short' })).toThrow('16 characters');
  for (const AVIARY_METRICS_ADDRESS of ['x', ':', '127.0.0.1', '127.0.0.1:70000', 'http://127.0.0.1:1'])
    expect(() => read({ AVIARY_METRICS_ADDRESS })).toThrow('must be a port or an address');
});

test('answers GET /metrics and nothing else', async () => {
  await using server = await serveMetrics(
    { logger: silentLogger, read: async () => 'up 1\n' },
    { ...loopback, token: undefined },
  );
  const reply = await fetch(server.url);
  expect([reply.status, await reply.text()]).toEqual([200, 'up 1\n']);
  expect(reply.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
  expect((await fetch(server.url, { method: 'POST' })).status).toBe(405);
  expect((await fetch(`${server.url}/more`)).status).toBe(404);
});

test('does not answer a page that leads a name of its own to loopback', async () => {
  await using server = await serveMetrics(
    { logger: silentLogger, read: async () => 'up 1\n' },
    { ...loopback, token: undefined },
  );
  const statusFor = (host: string) =>
    new Promise<number | undefined>((resolve, reject) => {
      request(server.url, { headers: { host } }, (reply) => resolve(reply.resume().statusCode))
        .on('error', reject)
        .end();
    });
  expect([await statusFor('localhost:9464'), await statusFor('evil.example:9464')]).toEqual([200, 403]);
});

test('lets in who has the token, and nobody else', async () => {
  const token = 'a-token-that-is-long';
  await using server = await serveMetrics({ logger: silentLogger, read: async () => 'up 1\n' }, { ...loopback, token });
  const statusFor = async (authorization?: string) =>
    (await fetch(server.url, authorization === undefined ? {} : { headers: { authorization } })).status;
  expect(await statusFor(`Bearer ${token}`)).toBe(200);
  for (const wrong of [undefined, '', token, `Bearer ${token}x`, `Bearer ${token.slice(1)}`, 'Bearer '])
    expect(await statusFor(wrong)).toBe(401);
});

test('reads once for all who ask together, and says when it cannot', async () => {
  let readings = 0;
  const gate = Promise.withResolvers<string>();
  const arrived = Promise.withResolvers<void>();
  await using server = await serveMetrics(
    {
      logger: silentLogger,
      read: () => {
        readings++;
        arrived.resolve();
        return gate.promise;
      },
    },
    { ...loopback, token: undefined },
  );
  const first = fetch(server.url);
  await arrived.promise;
  const second = fetch(server.url);
  const third = fetch(`${server.url}?x=1`);
  // Both have been read by the server once a request after them was answered.
  await fetch(`${server.url}/none`);
  gate.reject(new Error('no database'));
  expect((await Promise.all([first, second, third])).map(({ status }) => status)).toEqual([503, 503, 503]);
  expect(readings).toBe(1);
});
