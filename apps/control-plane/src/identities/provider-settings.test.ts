import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { EnvReader } from '@aviary/service-kit';
import { expect, test } from 'vitest';
import { readProviderSettings } from './provider-settings.ts';

const read = (value: unknown) =>
  readProviderSettings(
    new EnvReader({ AVIARY_AUTH_PROVIDERS: typeof value === 'string' ? value : JSON.stringify(value) }),
  );
const google = {
  id: 'google',
  kind: 'oidc',
  issuer: 'https://accounts.google.com',
  client_id: 'i',
  client_secret: 's3cret',
};
const github = { id: 'github', kind: 'github', client_id: 'i', client_secret: 's3cret' };

test('providers are what is said of them, and the usual for the rest', () => {
  expect(read('')).toEqual([]);
  expect(read([google, github])).toEqual([
    {
      id: 'google',
      kind: 'oidc',
      name: 'google',
      issuer: 'https://accounts.google.com',
      apiUrl: 'https://accounts.google.com/api/v3',
      clientId: 'i',
      clientSecret: 's3cret',
      scopes: ['openid', 'email', 'profile'],
    },
    expect.objectContaining({
      issuer: 'https://github.com',
      apiUrl: 'https://api.github.com',
      scopes: ['read:user', 'user:email'],
    }),
  ]);
  const [own] = read([{ ...github, issuer: 'https://ghe.example.com/', name: 'Our GitHub', scopes: ['user'] }]);
  expect(own).toMatchObject({
    name: 'Our GitHub',
    issuer: 'https://ghe.example.com',
    apiUrl: 'https://ghe.example.com/api/v3',
    scopes: ['user'],
  });
  // The "/" at the end is part of an issuer's name.
  expect(read([{ ...google, issuer: 'https://id.example.com/a/' }])[0]?.issuer).toBe('https://id.example.com/a/');
  expect(read([{ ...google, issuer: 'http://127.0.0.1:9/' }])[0]?.issuer).toBe('http://127.0.0.1:9');
});

test.each([
  ['no list', '{"id":"s3cret"}'],
  ['no JSON', '[{"client_secret":"s3cret"'],
  ['a relative path', 's3cret.json'],
  ['a file that is not there', '/nowhere/at/all'],
  ['a field that nobody knows', [{ ...google, secret: 's3cret' }]],
  ['no secret', [{ ...google, client_secret: '' }]],
  ['a bad id', [{ ...google, id: '../x' }]],
  ['the same id twice', [google, { ...github, id: 'google' }]],
  ['no issuer', [{ ...google, issuer: undefined }]],
  ['an issuer without TLS', [{ ...google, issuer: 'http://id.example.com' }]],
  ['an issuer with a password', [{ ...google, issuer: 'https://a:s3cret@id.example.com' }]],
  ['an issuer that is no URL', [{ ...google, issuer: 's3cret' }]],
  ['no scope openid', [{ ...google, scopes: ['email'] }]],
])('%s is refused, and nothing of it repeated', (_name, value) => {
  expect(() => read(value)).toThrow(/^AVIARY_AUTH_PROVIDERS /);
  try {
    read(value);
  } catch (error) {
    expect(String(error)).not.toContain('s3cret');
  }
});

test('a file is read as well', async () => {
  const directory = await mkdtemp(path.join(tmpdir(), 'aviary-providers-'));
  try {
    const file = path.join(directory, 'providers.json');
    await writeFile(file, JSON.stringify([google]));
    expect(read(file)).toHaveLength(1);
    await writeFile(file, '[');
    expect(() => read(file)).toThrow(file);
  } finally {
    await rm(directory, { recursive: true });
  }
});
