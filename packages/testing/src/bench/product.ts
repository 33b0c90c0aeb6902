import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { AviaryClient } from '@aviary/sdk';
import { runProgram, waitFor } from '@aviary/service-kit';

const repository = path.resolve(import.meta.dirname, '../../../..');
const startTimeoutMs = 120_000;

/** The whole product in processes of its own, on a data directory of its own. */
export interface Product extends AsyncDisposable {
  client: AviaryClient;
  dataDir: string;
  /** Stops the platform and starts it again with other settings. Its sandboxes go on meanwhile. */
  restart(settings: Record<string, string>): Promise<void>;
  /** Process id of the host agent. */
  hostAgentPid(): Promise<number>;
}

/** Starts the platform as `aviary up` does. `imagesFrom` is a data directory with built images. */
export async function startProduct({
  imagesFrom,
  settings = {},
}: {
  imagesFrom: string;
  settings?: Record<string, string>;
}): Promise<Product> {
  await using cleanup = new AsyncDisposableStack();
  const dataDir = await mkdtemp(path.join(os.tmpdir(), 'aviary-bench-'));
  cleanup.defer(() => rm(dataDir, { recursive: true, force: true, maxRetries: 5 }));
  await mkdir(path.join(dataDir, 'images'), { recursive: true, mode: 0o711 });
  await runProgram('chmod', ['711', dataDir]);
  await runProgram('cp', ['-al', `${imagesFrom}/images/.`, `${dataDir}/images`]);
  const [port, agentPort] = [await freePort(), await freePort()];
  const apiUrl = `http://127.0.0.1:${port}`;
  const env = {
    ...process.env,
    AVIARY_DATA_DIR: dataDir,
    AVIARY_PORT: String(port),
    AVIARY_AGENT_PORT: String(agentPort),
    AVIARY_CONTROL_PLANE_URL: apiUrl,
    AVIARY_NETWORK_PREFIX: `b${process.pid.toString(36).slice(-3)}`,
    AVIARY_FIRST_SLOT: '10000',
    AVIARY_LOG_LEVEL: 'warn',
  };
  let platform = await startPlatform({ ...env, ...settings }, dataDir);
  cleanup.defer(() => endProcess(platform));
  const apiKey = (await readFile(path.join(dataDir, 'bootstrap/api-key'), 'utf8')).trim();
  const client = new AviaryClient({ apiUrl, apiKey });
  cleanup.defer(() => removeAll(client));
  const owned = cleanup.move();
  return {
    client,
    dataDir,
    async restart(changed) {
      await endProcess(platform);
      platform = await startPlatform({ ...env, ...changed }, dataDir);
    },
    hostAgentPid: async () => {
      const { stdout } = await runProgram('pgrep', ['-P', String(platform.pid), '-f', 'host-agent/src/main.ts']);
      return Number(stdout.trim().split('\n')[0]);
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Deletes every sandbox of the team. */
export async function removeAll(client: AviaryClient): Promise<void> {
  const ids = (await Array.fromAsync(client.sandboxes.list())).map(({ id }) => id);
  await Promise.all(ids.map((id) => client.sandboxes.delete(id, { waitSec: 60 })));
}

/** Starts the platform's processes and waits until it says that it is up. */
async function startPlatform(env: NodeJS.ProcessEnv, dataDir: string): Promise<ChildProcess> {
  const child = spawn(process.execPath, [path.join(repository, 'apps/cli/src/main.ts'), 'up', '--json'], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env,
  });
  let output = '';
  let log = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    output = (output + text).slice(-20_000);
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    log = (log + text).slice(-20_000);
  });
  try {
    await waitFor({ what: 'the platform to start', timeoutMs: startTimeoutMs, intervalMs: 50 }, () => {
      if (child.exitCode !== null) throw new Error(`the platform in ${dataDir} ended`);
      return output.includes('\n');
    });
    return child;
  } catch (error) {
    await endProcess(child);
    throw new Error(`the platform did not start: ${log}`, { cause: error });
  }
}

async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function endProcess(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 20_000);
  await ended;
  clearTimeout(timer);
}
