import Fastify from 'fastify';
import { expect, test } from 'vitest';
import { defaultPasswordCost } from './password-hash.ts';
import { clearCookie, readRefreshToken } from './session-cookie.ts';

const ask = async (publicUrl: string, headers: Record<string, string>) => {
  const settings = { publicUrl: new URL(publicUrl), passwordCost: defaultPasswordCost };
  const app = Fastify();
  app.get('/', async (request, reply) => {
    clearCookie(settings, reply);
    return readRefreshToken(settings, request, undefined);
  });
  return app.inject({ url: '/', headers });
};

test('behind https the cookie is one that no page of a host below ours can set', async () => {
  const publicUrl = 'https://aviary.example.com';
  const cookie = '__Host-aviary_refresh=ours';
  const taken = await ask(publicUrl, { cookie, origin: publicUrl });
  expect(taken.json()).toEqual({ token: 'ours', to: 'cookie' });
  expect(taken.headers['set-cookie']).toBe(
    '__Host-aviary_refresh=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict; Secure',
  );
  expect((await ask(publicUrl, { cookie, origin: 'https://sandbox.aviary.example.com' })).statusCode).toBe(500);
  const theirs = await ask(publicUrl, { cookie: `aviary_refresh=theirs; ${cookie}`, origin: publicUrl });
  expect(theirs.json().token).toBe('ours');
  expect((await ask(publicUrl, { cookie: 'aviary_refresh=theirs', origin: publicUrl })).statusCode).toBe(500);
});

test('without https the cookie is for the routes that read it', async () => {
  const publicUrl = 'http://127.0.0.1:7070';
  const taken = await ask(publicUrl, { cookie: 'aviary_refresh=ours', origin: publicUrl });
  expect(taken.json().token).toBe('ours');
  expect(taken.headers['set-cookie']).toContain('aviary_refresh=; Path=/v1/auth;');
});
