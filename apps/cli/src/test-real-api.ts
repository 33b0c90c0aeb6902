import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { AviaryClient } from '@aviary/sdk';
import { FakeHostAgent } from '@aviary/testing';
import { bootstrapFiles, loadConfig } from './config.ts';
import { type Platform, startPlatform } from './platform/start-platform.ts';
import { runCli } from './run-cli.ts';
import type { Outcome } from './test-cli.ts';

interface Run {
  argv: readonly string[];
  /** On standard input. */
  lines?: readonly string[];
  /** Variables besides those that find the platform. */
  extra?: Record<string, string>;
  /** Told of all that was written to standard error so far. */
  onNote?: (text: string) => void;
}

/** For tests: the program with the real control plane, and with a host that has no microVMs. */
export class TestRealApi implements AsyncDisposable {
  readonly directory: string;
  readonly platform: Platform;
  readonly agent: FakeHostAgent;
  readonly #env: Record<string, string>;
  readonly #owned: AsyncDisposableStack;

  private constructor(
    { directory, platform, agent }: Pick<TestRealApi, 'directory' | 'platform' | 'agent'>,
    env: Record<string, string>,
    owned: AsyncDisposableStack,
  ) {
    this.directory = directory;
    this.platform = platform;
    this.agent = agent;
    this.#env = env;
    this.#owned = owned;
  }

  /** With variables of the control plane besides those that tests usually set. */
  static async start(extra: Record<string, string> = {}): Promise<TestRealApi> {
    await using stack = new AsyncDisposableStack();
    const directory = await mkdtemp(path.join(tmpdir(), 'aviary-real-'));
    stack.defer(() => rm(directory, { recursive: true }));
    const agent = stack.use(await FakeHostAgent.start());
    const env = {
      AVIARY_DATA_DIR: directory,
      AVIARY_PORT: String(await freePort()),
      AVIARY_AGENT_PORT: String(await freePort()),
      ...extra,
    };
    const platform = stack.use(await startControlPlane(env));
    await registerHost({ directory, agent, apiUrl: platform.apiUrl });
    return new TestRealApi({ directory, platform, agent }, env, stack.move());
  }

  /** Runs the program to its end. */
  async run({ argv, lines = [], extra = {}, onNote }: Run): Promise<Outcome & { code: number }> {
    const written = { stdout: '', stderr: '' };
    const stream = (name: keyof typeof written) => ({
      write: (data: string | Uint8Array) => {
        written[name] += typeof data === 'string' ? data : Buffer.from(data).toString();
        if (name === 'stderr') onNote?.(written.stderr);
      },
    });
    const code = await runCli({
      argv,
      env: { ...this.#env, ...extra },
      stdout: stream('stdout'),
      stderr: stream('stderr'),
      stdin: Readable.from(lines.map((line) => `${line}\n`)),
    });
    return { code, ...written };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#owned.disposeAsync();
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function startControlPlane(env: Record<string, string>): Promise<Platform> {
  const config = loadConfig(env);
  const client = new AviaryClient({ apiUrl: config.apiUrl });
  const main = path.join(import.meta.dirname, '../../control-plane/src/main.ts');
  return await startPlatform({
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
}

async function registerHost({
  directory,
  agent,
  apiUrl,
}: {
  directory: string;
  agent: FakeHostAgent;
  apiUrl: string;
}): Promise<void> {
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
    if (!response.ok) throw new Error(`${url} answered ${response.status}`);
    return response;
  };
  const answer = await post('/v1/hosts/register', host);
  const credentials = (await answer.json()) as { host_id: string; token: string };
  await post(`/v1/hosts/${credentials.host_id}/heartbeat`, {}, { 'x-host-token': credentials.token });
}
