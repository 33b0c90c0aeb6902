import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { runProgram, silentLogger } from '@aviary/service-kit';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { loadConfig } from '../config.ts';
import { startHostAgent } from '../start.ts';
import type { WantedClaim } from './choose-claim.ts';
import { lockDataDirectory } from './data-directory-lock.ts';
import { claimMachine } from './machine-claims.ts';

let directory: string;
let left: string[];
let emptied: string[];

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'aviary-claims-'));
  left = [];
  emptied = [];
});

afterEach(() => rm(directory, { recursive: true }));

/** `left` are the prefixes of which the kernel has something with a process in it, `emptied` those without one. */
const survey = async () => ({
  inhabitedPrefixes: new Set(left),
  slotsByPrefix: new Map([...left, ...emptied].map((prefix) => [prefix, new Set([1])])),
  routes: new Map<number, string>(),
});

async function claim(name: string, wanted: WantedClaim = {}) {
  const dataDir = path.join(directory, name);
  await mkdir(dataDir, { recursive: true });
  const runDirectory = path.join(directory, 'run');
  const file = path.join(dataDir, 'claim.json');
  return claimMachine({ logger: silentLogger, survey }, { dataDir, file, runDirectory, wanted });
}

test('agents that start at once share nothing', async () => {
  const claims = await Promise.all(['a', 'b', 'c', 'd'].map((name) => claim(name, { maxSlots: 100 })));
  expect(claims.map(({ firstSlot }) => firstSlot).toSorted((a, b) => a - b)).toEqual([1, 101, 201, 301]);
  expect(new Set(claims.map(({ prefix }) => prefix)).size).toBe(4);
  expect(new Set(claims.map(({ owner }) => owner)).size).toBe(4);
  for (const each of claims) each[Symbol.dispose]();
});

/** Claims for data directory `a` in a process that is killed then, and tells the prefix. */
async function claimAndDie(): Promise<string> {
  const script = `
    const { claimMachine } = await import(${JSON.stringify(path.join(import.meta.dirname, 'machine-claims.ts'))});
    const { silentLogger } = await import('@aviary/service-kit');
    const survey = async () => ({ inhabitedPrefixes: new Set(), slotsByPrefix: new Map(), routes: new Map() });
    const base = ${JSON.stringify(directory)};
    const claim = await claimMachine({ logger: silentLogger, survey },
      { dataDir: base + '/a', file: base + '/a/claim.json', runDirectory: base + '/run', wanted: {} });
    console.log(claim.prefix);
    process.kill(process.pid, 'SIGKILL');`;
  await mkdir(path.join(directory, 'a'));
  const flags = ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', script];
  const { stdout } = await runProgram(process.execPath, flags, { okExitCodes: [-1], cwd: import.meta.dirname });
  return stdout.trim();
}

test('an agent that was killed leaves its claim to others, unless microVMs go on in it', async () => {
  const prefix = await claimAndDie();
  left = [prefix];
  using beside = await claim('b');
  expect(beside.firstSlot).toBe(1_025);
  await expect(claim('c', { firstSlot: 1 })).rejects.toThrow(
    /host agent of .*\/a, which is stopped while its microVMs go on/,
  );
  left = [];
  using instead = await claim('c', { firstSlot: 1 });
  expect(instead.firstSlot).toBe(1);
  using again = await claim('a');
  expect(again).toMatchObject({ prefix, firstSlot: 2_049 });
});

test('slots in which nothing runs are kept for their agent, unless its data directory is gone', async () => {
  const prefix = await claimAndDie();
  emptied = [prefix];
  await expect(claim('b', { firstSlot: 1 })).rejects.toThrow(
    /host agent of .*\/a, which is stopped and keeps its slots for its next start/,
  );
  await rm(path.join(directory, 'a'), { recursive: true });
  [left, emptied] = [[prefix], []];
  await expect(claim('b', { firstSlot: 1 })).rejects.toThrow(/its microVMs go on/);
  [left, emptied] = [[], [prefix]];
  using instead = await claim('b', { firstSlot: 1 });
  expect(instead).toMatchObject({
    firstSlot: 1,
    abandoned: [{ prefix, owner: expect.stringMatching(/^[0-9a-f-]{36}$/) }],
  });
  expect(instead.abandoned[0]?.owner).not.toBe(instead.owner);
});

test('a restart finds its microVMs under the same names, whatever is set now', async () => {
  const { prefix, ...first } = await claim('a', { prefix: 'old', firstSlot: 64, maxSlots: 64 });
  first[Symbol.dispose]();
  left = ['old'];
  using running = await claim('a', { prefix: 'new', firstSlot: 256, maxSlots: 64 });
  expect(running).toMatchObject({ prefix: 'old', firstSlot: 64, owner: first.owner, previousPrefix: undefined });
  running[Symbol.dispose]();
  left = [];
  using idle = await claim('a', { prefix: 'new', firstSlot: 256, maxSlots: 64 });
  expect(idle).toMatchObject({ prefix: 'new', firstSlot: 256, owner: first.owner, previousPrefix: 'old' });
});

test('a copied data directory is refused beside its original, and a damaged claim by name', async () => {
  using _original = await claim('a');
  await cp(path.join(directory, 'a'), path.join(directory, 'copy'), { recursive: true });
  await expect(claim('copy')).rejects.toMatchObject({
    code: 'conflict',
    message: expect.stringContaining('is a copy of'),
  });
  await mkdir(path.join(directory, 'broken'));
  const file = path.join(directory, 'broken/claim.json');
  await writeFile(file, '{"version":1}');
  await expect(claim('broken')).rejects.toMatchObject({ code: 'integrity', message: expect.stringContaining(file) });
  expect(await readFile(file, 'utf8')).toBe('{"version":1}');
});

test('a second agent on one data directory is refused by name, before it touches anything', async () => {
  const dataDir = path.join(directory, 'data');
  await mkdir(path.join(dataDir, 'host'), { recursive: true });
  using _first = await lockDataDirectory({ dataDir, lockFile: path.join(dataDir, 'host/lock'), timeoutMs: 0 });
  const config = loadConfig({ AVIARY_DATA_DIR: dataDir, AVIARY_LOCK_TIMEOUT_MS: '0' });
  await expect(startHostAgent(config, { logger: silentLogger })).rejects.toMatchObject({
    code: 'conflict',
    message: expect.stringContaining(`a host agent runs on ${dataDir} already (process ${process.pid})`),
  });
});
