import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { must } from '@aviary/core';
import { linkImages } from '@aviary/host-agent/testing';
import { AviaryClient } from '@aviary/sdk';
import { runProgram, waitFor } from '@aviary/service-kit';

const cliMain = path.resolve(import.meta.dirname, '../../../cli/src/main.ts');
const startTimeoutMs = 120_000;
const stopTimeoutMs = 20_000;
const anyExitCode = Array.from({ length: 256 }, (_, code) => code);

/** What a finished `aviary …` printed, and its exit code. */
export interface CliResult {
  exitCode: number;
  stdout: string;
  stderr: string;
}

/** `aviary up` in a process of its own, with a data directory, ports and kernel names of its own. */
export interface PlatformHarness extends AsyncDisposable {
  client: AviaryClient;
  apiUrl: string;
  apiKey: string;
  dataDir: string;
  /** Starts `aviary up` (again) and resolves when it says that it is ready. `changed` settings hold for this run. */
  up(changed?: Record<string, string>): Promise<void>;
  /** Asks `aviary up` to stop, or ends it the hard way, and waits for its end. */
  down(signal?: 'SIGTERM' | 'SIGKILL'): Promise<void>;
  /** Process id of a service that `up` runs. */
  servicePid(name: 'control-plane' | 'host-agent'): Promise<number>;
  /** Process ids of VMMs, by what their command line holds: a sandbox's id, or nothing for all. */
  vmmPids(sandboxId?: string): Promise<number[]>;
  /** Runs `aviary …` against this platform. */
  aviary(...args: string[]): Promise<CliResult>;
  /** What `up` wrote, newest last. */
  log(): string;
}

/** `imagesFrom` is a data directory with built images; they are linked, not copied. */
export async function startPlatformHarness({
  imagesFrom,
  settings = {},
}: {
  imagesFrom: string;
  settings?: Record<string, string>;
}): Promise<PlatformHarness> {
  await using cleanup = new AsyncDisposableStack();
  const dataDir = await mkdtemp(path.join(os.tmpdir(), 'aviary-platform-'));
  cleanup.defer(() => rm(dataDir, { recursive: true, force: true, maxRetries: 5 }));
  await runProgram('chmod', ['711', dataDir]);
  await linkImages(imagesFrom, dataDir);
  const [port, agentPort] = [await freePort(), await freePort()];
  const apiUrl = `http://127.0.0.1:${port}`;
  const env: Record<string, string> = {
    PATH: process.env['PATH'] ?? '',
    HOME: process.env['HOME'] ?? '/root',
    NO_COLOR: '1',
    AVIARY_DATA_DIR: dataDir,
    AVIARY_PORT: String(port),
    AVIARY_AGENT_PORT: String(agentPort),
    AVIARY_NETWORK_PREFIX: `p${process.pid.toString(36).slice(-3)}`,
    AVIARY_FIRST_SLOT: String(27_000 + 64 * (process.pid % 64)),
    AVIARY_MAX_SLOTS: '64',
    ...settings,
  };
  let child: ChildProcess | undefined;
  let log = '';

  const platform: Omit<PlatformHarness, 'client' | 'apiKey' | typeof Symbol.asyncDispose> = {
    apiUrl,
    dataDir,
    async up(changed = {}) {
      const started = spawn(process.execPath, [cliMain, 'up'], {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...env, ...changed },
      });
      child = started;
      let printed = '';
      started.stdout.setEncoding('utf8').on('data', (text: string) => {
        printed += text;
      });
      started.stderr.setEncoding('utf8').on('data', (text: string) => {
        log = (log + text).slice(-1_000_000);
      });
      await waitFor({ what: 'aviary up', timeoutMs: startTimeoutMs, intervalMs: 50 }, () => {
        if (started.exitCode !== null) throw new Error(`aviary up ended: ${log.slice(-3_000)}`);
        return printed.includes('Aviary is running');
      });
    },
    async down(signal = 'SIGTERM') {
      if (child) await endProcess(child, signal);
      child = undefined;
    },
    async servicePid(name) {
      const [pid] = await findProcesses((line) => line.includes(`${name}/src/main.ts`), must(child?.pid, 'up runs'));
      return must(pid, `${name} runs`);
    },
    vmmPids: (sandboxId = '') =>
      findProcesses((line) => line.includes('qemu-system') && line.includes(dataDir) && line.includes(sandboxId)),
    async aviary(...args) {
      const { exitCode, stdout, stderr } = await runProgram(process.execPath, [cliMain, ...args], {
        env: { ...env, AVIARY_API_URL: apiUrl },
        timeoutMs: 120_000,
        okExitCodes: anyExitCode,
      });
      return { exitCode, stdout, stderr };
    },
    log: () => log,
  };
  cleanup.defer(() => platform.down());
  await platform.up();
  const apiKey = (await readFile(path.join(dataDir, 'bootstrap/api-key'), 'utf8')).trim();
  const client = new AviaryClient({ apiUrl, apiKey });
  cleanup.defer(async () => {
    if (!existsSync(dataDir)) return;
    if (!child) await platform.up();
    await removeAll(client);
  });
  const owned = cleanup.move();
  return { ...platform, client, apiKey, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Deletes every sandbox of the team. */
export async function removeAll(client: AviaryClient): Promise<void> {
  const ids = (await Array.fromAsync(client.sandboxes.list())).map(({ id }) => id);
  await Promise.all(ids.map((id) => client.sandboxes.delete(id, { waitSec: 60 })));
}

async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Processes by their command line; of one parent when given. */
async function findProcesses(matches: (commandLine: string) => boolean, parent?: number): Promise<number[]> {
  const found: number[] = [];
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    const line = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).replaceAll('\0', ' ');
    if (!matches(line)) continue;
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
    const parentPid = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
    if (parent === undefined || parentPid === parent) found.push(Number(pid));
  }
  return found;
}

async function endProcess(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill(signal);
  const timer = setTimeout(() => child.kill('SIGKILL'), stopTimeoutMs);
  await ended;
  clearTimeout(timer);
}
