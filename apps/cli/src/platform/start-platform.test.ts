import { mkdtemp, rm } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type CliConfig, loadConfig } from '../config.ts';
import { readStartTicks } from './platform-lock.ts';
import { isPortFree } from './ports.ts';
import { startPlatform } from './start-platform.ts';
import type { Service } from './supervisor.ts';

let directory: string;
let servers: Server[];
const signal = new AbortController().signal;
const onLine = () => undefined;

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'aviary-platform-'));
  servers = [];
});

afterEach(async () => {
  for (const server of servers) server.close();
  await rm(directory, { recursive: true });
});

async function occupiedPort(): Promise<number> {
  const server = createServer();
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

async function freePort(): Promise<number> {
  const port = await occupiedPort();
  await new Promise((resolve) => servers.pop()?.close(resolve));
  return port;
}

async function configure(env: Record<string, string> = {}): Promise<CliConfig> {
  return loadConfig({
    AVIARY_DATA_DIR: path.join(directory, 'data'),
    AVIARY_PORT: String(await freePort()),
    AVIARY_AGENT_PORT: String(await freePort()),
    ...env,
  });
}

const sleeper = (isReady: Service['isReady']): Service => ({
  name: 'sleeper',
  file: process.execPath,
  args: ['-e', 'setInterval(() => {}, 1000)'],
  env: {},
  isReady,
  readyTimeoutMs: 200,
  isAlive: async () => true,
  stopTimeoutMs: 5_000,
});

describe('startPlatform', () => {
  it('runs its services until it is disposed, and refuses a second of its kind', async () => {
    const config = await configure();
    const services = [sleeper(async () => true)];
    const platform = await startPlatform({ config, signal, onLine, services });
    const pid = platform.pids()['sleeper'] ?? 0;
    expect(platform).toMatchObject({
      apiUrl: `http://127.0.0.1:${config.controlPlanePort}`,
      apiKeyFile: path.join(directory, 'data/bootstrap/api-key'),
    });
    await expect(startPlatform({ config, signal, onLine, services })).rejects.toMatchObject({ code: 'already_exists' });
    expect(await readStartTicks(pid)).toBeDefined();
    await platform[Symbol.asyncDispose]();
    expect(await readStartTicks(pid)).toBeUndefined();
    await using _again = await startPlatform({ config, signal, onLine, services });
  });

  it('says which port is in use, by whom, and what to set', async () => {
    const port = await occupiedPort();
    const config = await configure({ AVIARY_AGENT_PORT: String(port) });
    await expect(startPlatform({ config, signal, onLine, services: [] })).rejects.toThrow(
      new RegExp(`port ${port} on 127.0.0.1 is in use by .*process ${process.pid}\\).*AVIARY_AGENT_PORT=PORT`),
    );
    expect(await isPortFree({ host: '127.0.0.1', port: config.controlPlanePort })).toBe(true);
  });

  it('leaves nothing running when a service does not get ready', async () => {
    const config = await configure();
    const started: Record<string, number> = {};
    const good = {
      ...sleeper(async () => true),
      name: 'good',
      args: ['-e', 'console.log(process.pid); setInterval(() => {}, 1000)'],
    };
    const noted = (service: string, line: string) => {
      started[service] = Number(line);
    };
    const bad = { ...sleeper(async () => started['good'] === undefined), name: 'bad', isReady: async () => false };
    await expect(startPlatform({ config, signal, onLine: noted, services: [good, bad] })).rejects.toThrow(
      'cannot start bad',
    );
    expect(started['good']).toBeGreaterThan(0);
    expect(await readStartTicks(started['good'] ?? 0)).toBeUndefined();
  });
});
