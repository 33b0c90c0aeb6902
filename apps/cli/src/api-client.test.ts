import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { must } from '@aviary/core';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Profiles, profilesFile, writeProfiles } from './account/profile-store.ts';
import { connectToApi } from './api-client.ts';
import { bootstrapFiles, loadConfig } from './config.ts';

/** A server that keeps what it was shown. */
class Listener {
  readonly shown: (string | string[] | undefined)[] = [];
  readonly #server: Server = createServer((request, response) => {
    this.shown.push(request.headers['x-api-key']);
    response.writeHead(200, { 'content-type': 'application/json' }).end('{"status":"ok"}');
  });

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

let directory: string;
let own: Listener;
let other: Listener;
let ownUrl: string;
let otherUrl: string;
let env: Record<string, string>;

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'aviary-client-'));
  own = new Listener();
  other = new Listener();
  ownUrl = await own.listen();
  otherUrl = await other.listen();
  env = { AVIARY_DATA_DIR: path.join(directory, 'data'), XDG_CONFIG_HOME: path.join(directory, 'config') };
  const { apiKey } = bootstrapFiles(path.join(directory, 'data'));
  await mkdir(path.dirname(apiKey), { recursive: true });
  await writeFile(apiKey, 'avy_bootstrap\n');
  const profiles: Profiles = {
    current: 'work',
    profiles: { work: { apiUrl: ownUrl, credential: { type: 'api_key', apiKey: 'avy_profile' } } },
  };
  await writeProfiles(must(profilesFile(env), 'it is set'), profiles);
});

afterEach(async () => {
  own.close();
  other.close();
  await rm(directory, { recursive: true });
});

/** Calls with what the environment and `extra` say. */
async function call(extra: Record<string, string>): Promise<void> {
  await connectToApi(loadConfig({ ...env, ...extra })).health();
}

describe('who is shown to the API', () => {
  it('is the key of the environment, before any profile', async () => {
    await call({ AVIARY_API_URL: otherUrl, AVIARY_API_KEY: 'avy_environment' });
    expect(other.shown).toEqual(['avy_environment']);
  });

  it('is the current profile, at its own server', async () => {
    await call({});
    await call({ AVIARY_API_URL: ownUrl });
    expect(own.shown).toEqual(['avy_profile', 'avy_profile']);
  });

  it('is the key of the data directory where no profile fits', async () => {
    await call({ AVIARY_API_URL: otherUrl });
    await call({ AVIARY_API_URL: otherUrl, XDG_CONFIG_HOME: path.join(directory, 'none') });
    expect(other.shown).toEqual(['avy_bootstrap', 'avy_bootstrap']);
    expect(own.shown).toEqual([]);
  });

  it('is nobody where the named profile is of another server', async () => {
    await expect(call({ AVIARY_API_URL: otherUrl, AVIARY_PROFILE: 'work' })).rejects.toThrow('unset one of them');
    expect([own.shown, other.shown]).toEqual([[], []]);
  });

  it('is told of a URL that is none', () => {
    expect(() => connectToApi(loadConfig({ ...env, AVIARY_API_URL: 'nowhere' }))).toThrow('must start with http');
  });

  it('tell whoever has nothing to show how to log in, and where', () => {
    const fresh = { AVIARY_DATA_DIR: directory, XDG_CONFIG_HOME: directory, AVIARY_API_URL: otherUrl };
    expect(() => connectToApi(loadConfig(fresh))).toThrow(`not logged in to ${otherUrl}: use 'aviary login --url URL'`);
  });
});
