import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { minimalTemplateId, newId, platformTeamId, type SandboxId } from '@aviary/core';
import { HostAgent } from '@aviary/proto/hostagent';
import { runProgram, waitFor } from '@aviary/service-kit';
import { type Client, createClient } from '@connectrpc/connect';
import { createConnectTransport, Http2SessionManager } from '@connectrpc/connect-node';
import { type ControlPlaneStub, startControlPlaneStub } from '../control-plane/control-plane-stub.ts';
import { patienceMs } from './patience.ts';
import { linkImages } from './test-images.ts';

/** What a host holds on behalf of sandboxes, counted from the outside: the kernel and the disk are asked, not the agent. */
export interface Holdings {
  processes: string[];
  namespaces: string[];
  sandboxDirectories: string[];
  records: string[];
}

/** A real host agent in a process of its own, with a data directory and names of its own. */
export interface AgentHarness extends AsyncDisposable {
  client: Client<typeof HostAgent>;
  controlPlane: ControlPlaneStub;
  dataDir: string;
  pid(): number;
  url(): string;
  /** A client with a connection of its own, which `cut` destroys whatever is under way. */
  connect(): { client: Client<typeof HostAgent>; cut(): void };
  /** Starts the agent (again). `fault` is an AVIARY_FAULT setting. Resolves when it serves calls. */
  start(fault?: string): Promise<void>;
  /** Ends the agent the hard way (default) or politely, and waits for its end. */
  stop(signal?: 'SIGKILL' | 'SIGTERM'): Promise<void>;
  /** Resolves when the agent's process has ended by itself. */
  waitExit(): Promise<void>;
  holdings(): Promise<Holdings>;
  log(): string;
}

const compileCache = process.env['NODE_COMPILE_CACHE'];
const agentMain = path.resolve(import.meta.dirname, '../main.ts');

/** `imagesFrom` is a data directory with built images; they are linked, not copied. */
export async function startAgentHarness({
  imagesFrom,
  settings = {},
}: {
  imagesFrom: string;
  settings?: Record<string, string>;
}): Promise<AgentHarness> {
  await using cleanup = new AsyncDisposableStack();
  const dataDir = await mkdtemp(path.join(os.tmpdir(), 'aviary-agent-'));
  cleanup.defer(() => rm(dataDir, { recursive: true, force: true, maxRetries: 5 }));
  await writeFile(path.join(dataDir, 'token'), 'one-time-token');
  await linkImages(imagesFrom, dataDir);
  const controlPlane = cleanup.use(await startControlPlaneStub());
  const port = 19_000 + Math.floor(Math.random() * 900);
  let child: ChildProcess | undefined;
  let exited: Promise<void> = Promise.resolve();
  let log = '';
  const url = `http://127.0.0.1:${port}`;

  const token = await controlPlane.signToken({ expiresIn: '2h' });
  const connect = (sessionManager?: Http2SessionManager) =>
    createClient(
      HostAgent,
      createConnectTransport({
        baseUrl: url,
        httpVersion: '2',
        ...(sessionManager ? { sessionManager } : {}),
        interceptors: [
          (next) => (request) => {
            request.header.set('Authorization', `Bearer ${token}`);
            return next(request);
          },
        ],
      }),
    );
  const client = connect();

  const harness: Omit<AgentHarness, typeof Symbol.asyncDispose> = {
    client,
    controlPlane,
    dataDir,
    pid: () => child?.pid ?? 0,
    url: () => url,
    connect() {
      const session = new Http2SessionManager(url);
      return { client: connect(session), cut: () => session.abort(new Error('the caller is gone')) };
    },
    async start(fault) {
      child = spawn(process.execPath, [agentMain], {
        stdio: ['ignore', 'ignore', 'pipe'],
        env: {
          PATH: process.env['PATH'],
          ...(compileCache === undefined ? {} : { NODE_COMPILE_CACHE: compileCache }),
          AVIARY_DATA_DIR: dataDir,
          AVIARY_CONTROL_PLANE_URL: controlPlane.url,
          AVIARY_AGENT_PORT: String(port),
          AVIARY_HOST_TOKEN_FILE: path.join(dataDir, 'token'),
          AVIARY_MAX_SLOTS: '64',
          AVIARY_READY_SLOTS: '1',
          AVIARY_WARM_POOL: '0',
          AVIARY_KVM_PROBE_TIMEOUT_MS: String(patienceMs(60_000)),
          ...settings,
          ...(fault === undefined ? {} : { AVIARY_FAULT: fault }),
        },
      });
      child.stderr?.setEncoding('utf8').on('data', (text: string) => {
        log = (log + text).slice(-1_000_000);
      });
      const started = child;
      exited = new Promise((resolve) => started.once('exit', () => resolve()));
      const start = { what: "the host agent's first answer", timeoutMs: patienceMs(90_000), intervalMs: 50 };
      await waitFor(start, async () => {
        if (started.exitCode !== null || started.signalCode !== null) throw new Error('the host agent ended');
        return client.listSandboxes({}, { timeoutMs: patienceMs(1_000) }).then(
          () => true,
          () => false,
        );
      }).catch((cause: unknown) => {
        throw new Error(`the host agent does not serve; its log: ${log.slice(-3_000)}`, { cause });
      });
    },
    async stop(signal = 'SIGKILL') {
      child?.kill(signal);
      await exited;
      child = undefined;
    },
    waitExit: () => exited,
    async holdings() {
      const list = (directory: string) => (existsSync(directory) ? readdir(directory) : Promise.resolve([]));
      return {
        processes: await processesMentioning(dataDir, child?.pid),
        namespaces: (await list('/run/netns')).filter((name) => name.startsWith(`${claimedPrefix(dataDir)}-`)),
        sandboxDirectories: await list(path.join(dataDir, 'host/sandboxes')),
        records: (await list(path.join(dataDir, 'host/journal'))).filter((name) => name.endsWith('.json')),
      };
    },
    log: () => log,
  };
  cleanup.defer(async () => {
    if (!child) await harness.start().catch(() => undefined);
    const { sandboxes } = await client.listSandboxes({}, { timeoutMs: 5_000 }).catch(() => ({ sandboxes: [] }));
    for (const { sandboxId } of sandboxes)
      await client.destroySandbox({ operationId: newId('operation'), sandboxId }).catch(() => undefined);
    await harness.stop('SIGTERM');
    await removeHostTraces(claimedPrefix(dataDir));
  });
  await harness.start();
  const owned = cleanup.move();
  return { ...harness, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** A request for a small sandbox of the built-in template. */
export function minimalRequest(
  sandboxId: SandboxId,
  overrides: { operationId?: string; diskMib?: number; timeoutSec?: number } = {},
) {
  return {
    operationId: overrides.operationId ?? newId('operation'),
    sandboxId,
    teamId: newId('team'),
    template: { teamId: platformTeamId, templateId: minimalTemplateId },
    vcpus: 1,
    memoryMib: 512,
    diskMib: overrides.diskMib ?? 5_120,
    timeoutSec: overrides.timeoutSec ?? 0,
  };
}

/** What the names of this agent's namespaces start with. */
function claimedPrefix(dataDir: string): string {
  return (JSON.parse(readFileSync(path.join(dataDir, 'host/claim.json'), 'utf8')) as { prefix: string }).prefix;
}

/** What an agent leaves on its host for the next one: the shared firewall table, and the cgroups above those of microVMs. */
async function removeHostTraces(networkPrefix: string): Promise<void> {
  await runProgram('nft', ['delete', 'table', 'inet', `aviary_${networkPrefix}`], { okExitCodes: [0, 1] });
  const roots = [
    '/sys/fs/cgroup',
    ...(await readdir('/sys/fs/cgroup')).map((name) => path.join('/sys/fs/cgroup', name)),
  ];
  for (const root of roots) await rmdir(path.join(root, `aviary-${networkPrefix}`)).catch(() => undefined);
}

async function processesMentioning(text: string, except: number | undefined): Promise<string[]> {
  const found: string[] = [];
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid) || Number(pid) === except || Number(pid) === process.pid) continue;
    const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    if (commandLine.includes(text)) found.push(`${pid} ${commandLine.replaceAll('\0', ' ').slice(0, 80)}`);
  }
  return found;
}
