import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type Credential, readProfiles, writeProfiles } from './profile-store.ts';
import { sessionToken } from './session-token.ts';

let directory: string;
let file: string;
let server: Server;
let apiUrl: string;
/** Refresh tokens that were used up, in order. */
let used: string[];

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'aviary-session-'));
  file = path.join(directory, 'config.json');
  used = [];
  server = createServer(async (request, response) => {
    const pieces = await Array.fromAsync(request);
    used.push(JSON.parse(Buffer.concat(pieces).toString()).refresh_token);
    const session = {
      access_token: `access-${used.length}`,
      access_token_expires_at: new Date(Date.now() + 900_000).toISOString(),
      refresh_token: `refresh-${used.length}`,
      user: { email: 'ada@example.com' },
    };
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(session));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  apiUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

afterEach(async () => {
  server.closeAllConnections();
  server.close();
  await rm(directory, { recursive: true });
});

async function keep(expiresAt: number): Promise<void> {
  const credential: Credential = {
    type: 'session',
    email: 'ada@example.com',
    accessToken: 'access-0',
    accessTokenExpiresAt: new Date(expiresAt).toISOString(),
    refreshToken: 'refresh-0',
  };
  const other: Credential = { type: 'api_key', apiKey: 'avy_1' };
  await writeProfiles(file, {
    current: 'other',
    profiles: { other: { apiUrl, credential: other }, work: { apiUrl, credential } },
  });
}

const token = () => sessionToken({ file, name: 'work', userAgent: 'test' })(new AbortController().signal);

it('is the kept one while that is good', async () => {
  await keep(Date.now() + 600_000);
  expect(await token()).toBe('access-0');
  expect(used).toEqual([]);
});

it('is renewed once for all who ask at the same time', async () => {
  await keep(0);
  expect(await Promise.all([token(), token(), token()])).toEqual(['access-1', 'access-1', 'access-1']);
  expect(used).toEqual(['refresh-0']);
});

it('leaves the current profile as it is when it renews another', async () => {
  await keep(0);
  await token();
  expect(readProfiles(file).current).toBe('other');
});

it('is none after logging out', async () => {
  await writeProfiles(file, { current: null, profiles: {} });
  await expect(token()).rejects.toThrow('logged out meanwhile');
});
