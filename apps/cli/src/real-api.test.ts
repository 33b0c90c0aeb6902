import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { must } from '@aviary/core';
import { AviaryClient } from '@aviary/sdk';
import { FakeHostAgent } from '@aviary/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { profilesFile, readProfiles, writeProfiles } from './account/profile-store.ts';
import { bootstrapFiles, loadConfig } from './config.ts';
import { type Platform, readApiKey, startPlatform } from './platform/start-platform.ts';
import { runCli } from './run-cli.ts';

// The command line program against the real control plane, with a host that has no microVMs.
let directory: string;
let agent: FakeHostAgent;
let platform: Platform;
let env: Record<string, string>;

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'aviary-real-'));
  agent = await FakeHostAgent.start();
  const port = await freePort();
  env = { AVIARY_DATA_DIR: directory, AVIARY_PORT: String(port), AVIARY_AGENT_PORT: String(await freePort()) };
  const config = loadConfig(env);
  const client = new AviaryClient({ apiUrl: config.apiUrl });
  const main = path.join(import.meta.dirname, '../../control-plane/src/main.ts');
  platform = await startPlatform({
    config,
    signal: new AbortController().signal,
    onLine: () => undefined,
    services: [
      {
        name: 'control-plane',
        file: process.execPath,
        args: [main],
        env: { ...process.env, ...env },
        isReady: (signal) => client.health({ signal }).then(() => true),
        isAlive: async () => true,
        readyTimeoutMs: 60_000,
        stopTimeoutMs: 5_000,
      },
    ],
  });
  await registerHost(config.apiUrl);
}, 90_000);

afterAll(async () => {
  await platform?.[Symbol.asyncDispose]();
  await agent?.[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

async function registerHost(apiUrl: string): Promise<void> {
  const token = (await readFile(bootstrapFiles(directory).hostToken, 'utf8')).trim();
  const host = {
    token,
    address: agent.address,
    arch: 'x86_64',
    cpu_cores: 4,
    memory_mb: 8_192,
    disk_gb: 100,
    agent_version: '0',
  };
  const post = async (url: string, body: unknown, headers: Record<string, string> = {}) => {
    const response = await fetch(`${apiUrl}${url}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
    });
    expect(response.ok, `${url} answered ${response.status}`).toBe(true);
    return response;
  };
  const answer = await post('/v1/hosts/register', host);
  const credentials = (await answer.json()) as { host_id: string; token: string };
  await post(`/v1/hosts/${credentials.host_id}/heartbeat`, {}, { 'x-host-token': credentials.token });
}

async function aviary(...argv: string[]) {
  return aviaryWith({ argv });
}

/** Runs the program with other variables, and lines on standard input. */
async function aviaryWith({
  argv,
  lines = [],
  extra = {},
}: {
  argv: readonly string[];
  lines?: readonly string[];
  extra?: Record<string, string>;
}) {
  const written = { stdout: '', stderr: '' };
  const stream = (name: keyof typeof written) => ({
    write: (data: string | Uint8Array) => {
      written[name] += typeof data === 'string' ? data : Buffer.from(data).toString();
    },
  });
  const code = await runCli({
    argv,
    env: { ...env, ...extra },
    stdout: stream('stdout'),
    stderr: stream('stderr'),
    stdin: Readable.from(lines.map((line) => `${line}\n`)),
  });
  return { code, ...written };
}

async function aviaryJson(...argv: string[]) {
  const { code, stdout, stderr } = await aviary(...argv, '--json');
  expect(code, stderr).toBe(0);
  return JSON.parse(stdout);
}

describe('against the real control plane', () => {
  it('finds its key, and sees the host', async () => {
    const client = new AviaryClient({ apiUrl: platform.apiUrl, apiKey: await readApiKey(platform) });
    expect(await client.hosts.list()).toMatchObject([{ status: 'online', address: agent.address }]);
  });

  it('takes a sandbox through its life', async () => {
    const { id } = await aviaryJson('sandbox', 'create', '--memory', '256', '--metadata', 'job=1');
    expect(await aviaryJson('sandbox', 'get', id)).toMatchObject({ status: 'running', metadata: { job: '1' } });
    expect(await aviaryJson('sandbox', 'pause', id)).toMatchObject({ status: 'paused' });
    expect(await aviaryJson('sandbox', 'resume', id)).toMatchObject({ status: 'running' });
    expect((await aviaryJson('sandbox', 'fork', id, '--count', '2')).items).toHaveLength(2);
    const listed = await aviaryJson('sandbox', 'list', '--status', 'running');
    expect(listed.items).toHaveLength(3);
    for (const one of listed.items) {
      expect(await aviaryJson('sandbox', 'rm', one.id)).toMatchObject({ items: [{ status: 'stopped' }] });
    }
    expect((await aviaryJson('sandbox', 'list')).items).toEqual([]);
  });

  it('waits as the API says and asks again, where there was no room', async () => {
    const options = { apiUrl: platform.apiUrl, apiKey: await readApiKey(platform) };
    const first = await new AviaryClient(options).sandboxes.create({ memory_mb: 6_000 }, { waitSec: 20 });
    const delays: number[] = [];
    const client = new AviaryClient({
      ...options,
      sleep: async (ms) => {
        delays.push(ms);
        await new AviaryClient(options).sandboxes.delete(first.id, { waitSec: 20 });
      },
    });
    const { id, status } = await client.sandboxes.create({ memory_mb: 6_000 }, { waitSec: 20 });
    expect([status, delays]).toEqual(['running', [2_000]]);
    await client.sandboxes.delete(id, { waitSec: 20 });
  });

  it('reports what the API refuses', async () => {
    expect(await aviary('sandbox', 'get', 'sb-00000000-0000-7000-8000-000000000000')).toMatchObject({
      code: 3,
      stdout: '',
    });
    const refused = await aviary('sandbox', 'create', '--memory', '1');
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain('--memory must be at least 256');
    const templateless = await aviary('run', '--template', 'no-such', '--', 'true');
    expect(templateless.code).toBe(3);
  });
});

describe('people at the command line', () => {
  // Spaces at the ends belong to it.
  const password = ' a long enough password ';
  let extra: Record<string, string>;
  beforeAll(() => {
    extra = { XDG_CONFIG_HOME: path.join(directory, 'config') };
  });
  const asPerson = async (argv: readonly string[], lines: readonly string[] = []) => {
    const { code, stdout, stderr } = await aviaryWith({ argv: [...argv, '--json'], lines, extra });
    return { code, stderr, body: stdout === '' ? undefined : JSON.parse(stdout) };
  };

  it('claim the platform once, make a key, and go again', async () => {
    const claim = ['admin', 'claim', '--email', 'ada@example.com', '--name', 'Ada'];
    expect((await asPerson(claim, [password])).body).toMatchObject({
      user: { is_admin: true },
      team: { role: 'owner' },
    });
    expect((await asPerson(claim, ['0'.repeat(40), password])).code).not.toBe(0);
    expect((await asPerson(['whoami'])).body).toMatchObject({ email: 'ada@example.com', is_admin: true });
    const made = (await asPerson(['key', 'create', 'reporting', '--scope', 'read'])).body;
    expect((await asPerson(['key', 'list'])).body.items[0]).toMatchObject({ id: made.id, scopes: ['read'] });
    const byKey = { ...extra, AVIARY_API_KEY: made.key };
    expect((await aviaryWith({ argv: ['sandbox', 'list'], extra: byKey })).code).toBe(0);
    expect((await aviaryWith({ argv: ['sandbox', 'create'], extra: byKey })).stderr).toContain(
      'this API key is for read',
    );
    await asPerson(['key', 'revoke', made.id]);
    expect((await aviaryWith({ argv: ['sandbox', 'list'], extra: byKey })).code).toBe(5);
    expect((await asPerson(['logout'])).code).toBe(0);
    expect((await asPerson(['logout'])).stderr).toContain('not logged in');
  });

  it('log in with what they know', async () => {
    const login = ['login', '--email', 'ada@example.com'];
    expect((await asPerson(login, ['not the password'])).code).toBe(5);
    expect((await asPerson(login, [password.trim()])).code).toBe(5);
    expect((await asPerson(login)).stderr).toContain('password is missing');
    expect((await asPerson(login, [password])).body.user.email).toBe('ada@example.com');
    expect((await asPerson(['whoami'])).code).toBe(0);
    const stale = readProfilesOf(extra);
    for (const profile of Object.values(stale.profiles)) {
      if (profile.credential.type === 'session') profile.credential.accessTokenExpiresAt = new Date(0).toISOString();
    }
    await writeProfiles(profileFile(extra), stale);
    // Two at once: one renews the session, the other waits for what it got.
    const both = await Promise.all([asPerson(['whoami']), asPerson(['whoami'])]);
    expect(both.map(({ code }) => code)).toEqual([0, 0]);
  });

  it('log in with a key that is good', async () => {
    expect((await asPerson(['login', '--key'], ['avy_0'])).code).toBe(5);
    const apiKey = await readApiKey(platform);
    expect((await asPerson(['login', '--key'], [apiKey])).code).toBe(0);
    expect((await asPerson(['whoami'])).code).not.toBe(0);
    expect((await asPerson(['sandbox', 'list'])).code).toBe(0);
  });
});

function profileFile(extra: Record<string, string>): string {
  return must(profilesFile(extra), 'it is set');
}

function readProfilesOf(extra: Record<string, string>) {
  return readProfiles(profileFile(extra));
}
