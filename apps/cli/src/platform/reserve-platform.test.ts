import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { findApiUrl } from '../api-client.ts';
import { type CliConfig, loadConfig } from '../config.ts';
import { reservePlatform } from './reserve-platform.ts';

let directory: string;
let servers: Server[];
let notes: string[];
const signal = new AbortController().signal;

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'aviary-reserve-'));
  servers = [];
  notes = [];
});

afterEach(async () => {
  for (const server of servers) server.close();
  await rm(directory, { recursive: true });
});

/** A server of somebody else, at any port or at one that was chosen. */
async function occupy(port = 0): Promise<number> {
  const server = createServer();
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

/** What the program would use without a setting, at ports that tests can have. */
function usual(name: string, ports: { controlPlane: number; agent: number }): CliConfig {
  const config = loadConfig({ AVIARY_DATA_DIR: path.join(directory, name) });
  return { ...config, controlPlanePort: ports.controlPlane, agentPort: ports.agent };
}

const reserve = (config: CliConfig) => reservePlatform({ config, signal, onNote: (note) => notes.push(note) });

test('a second platform goes around the ports of the first, says so, and has them again the next time', async () => {
  const ports = { controlPlane: await occupy(), agent: await occupy() };
  const first = await reserve(usual('b', ports));
  const chosen = { controlPlane: first.config.controlPlanePort, agent: first.config.agentPort };
  expect(new Set([...Object.values(ports), ...Object.values(chosen)]).size).toBe(4);
  expect(notes).toEqual([
    expect.stringMatching(
      new RegExp(
        `port ${ports.controlPlane} .*process ${process.pid}.*: the API takes port ${chosen.controlPlane}; AVIARY_PORT`,
      ),
    ),
    expect.stringMatching(
      new RegExp(`port ${ports.agent} .*: the host agent takes port ${chosen.agent}; AVIARY_AGENT_PORT`),
    ),
  ]);
  expect(findApiUrl(usual('b', ports))).toBe(`http://127.0.0.1:${chosen.controlPlane}`);
  expect(findApiUrl(loadConfig({ AVIARY_DATA_DIR: path.join(directory, 'b'), AVIARY_PORT: '1' }))).toBe(
    'http://127.0.0.1:1',
  );
  await first[Symbol.asyncDispose]();
  for (const server of servers.splice(0)) await new Promise((resolve) => server.close(resolve));
  await using again = await reserve(usual('b', ports));
  expect(again.config).toMatchObject({ controlPlanePort: chosen.controlPlane, agentPort: chosen.agent });
});

test('a port that was set is not gone around', async () => {
  const port = await occupy();
  const config = loadConfig({ AVIARY_DATA_DIR: path.join(directory, 'b'), AVIARY_PORT: String(port) });
  await expect(reserve(config)).rejects.toMatchObject({
    code: 'already_exists',
    message: expect.stringContaining('AVIARY_PORT=PORT'),
  });
});

test('a first start without room is refused by name; a host that is registered may come up to be cleared', async () => {
  const dataDir = path.join(directory, 'b');
  const ask = () =>
    reservePlatform({
      config: usual('b', { controlPlane: 17_070, agent: 17_071 }),
      signal,
      onNote: () => undefined,
      freeBytes: async () => 900 * 2 ** 20,
    });
  await expect(ask()).rejects.toMatchObject({
    code: 'disk_full',
    message: expect.stringContaining(`${dataDir} has 900 MiB free, and Aviary needs 1 GiB there`),
  });
  await mkdir(path.join(dataDir, 'host'));
  await writeFile(path.join(dataDir, 'host/credentials.json'), '{}');
  await using _reservation = await ask();
});
