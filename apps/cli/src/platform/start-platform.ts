import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { AppError } from '@aviary/core';
import { AviaryClient } from '@aviary/sdk';
import { bootstrapFiles, type CliConfig, localUrl } from '../config.ts';
import { answersHttp, answersHttp2 } from './liveness.ts';
import { type Address, isListening } from './ports.ts';
import { type PlatformReservation, reservePlatform } from './reserve-platform.ts';
import { ServiceLogs } from './service-logs.ts';
import { type Service, Supervisor } from './supervisor.ts';

/** Both services together stop well within the 10 s that service managers give. */
const stopTimeoutMs = { hostAgent: 5_000, controlPlane: 3_500 };
const readyTimeoutMs = { hostAgent: 300_000, controlPlane: 240_000 };

export interface PlatformOptions {
  config: CliConfig;
  /** What {@link reservePlatform} gave for `config`; made here without. The platform gives it back when it is disposed. */
  reservation?: PlatformReservation;
  /** Aborting gives up the start. */
  signal: AbortSignal;
  /** Each line that a service writes; `logs` in the data directory keeps them as well. */
  onLine: (service: string, line: string) => void;
  /** Told before each service is started. */
  onStep?: (text: string) => void;
  /** The services to run; by default control plane and host agent. */
  services?: readonly Service[];
}

/** A running platform. Disposing stops its services; sandboxes go on. */
export interface Platform extends AsyncDisposable {
  apiUrl: string;
  dataDir: string;
  apiKeyFile: string;
  pids(): Record<string, number | undefined>;
}

/** Starts control plane and host agent on this machine and waits until both are ready. Throws AppError; nothing is left running then. */
export async function startPlatform(options: PlatformOptions): Promise<Platform> {
  const { signal, onLine, onStep = () => undefined } = options;
  await using cleanUp = new AsyncDisposableStack();
  const reservation =
    options.reservation ?? (await reservePlatform({ config: options.config, signal, onNote: onStep }));
  const { config, apiUrl } = cleanUp.use(reservation);
  const logs = cleanUp.use(new ServiceLogs(config.dataDir));
  const keepLine = (service: string, line: string) => {
    logs.add(service, line);
    onLine(service, line);
  };
  const supervisor = cleanUp.use(new Supervisor({ onLine: keepLine }));
  for (const service of options.services ?? platformServices(config)) {
    onStep(`starting ${service.name}`);
    await supervisor.start(service, signal);
  }
  const running = cleanUp.move();
  return {
    apiUrl,
    dataDir: config.dataDir,
    apiKeyFile: bootstrapFiles(config.dataDir).apiKey,
    pids: () => supervisor.pids(),
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

/** The API key that the control plane made at its first start. Throws `internal` when it is not there. */
export async function readApiKey(platform: Pick<Platform, 'apiKeyFile'>): Promise<string> {
  try {
    return (await readFile(platform.apiKeyFile, 'utf8')).trim();
  } catch (cause) {
    throw new AppError('internal', `cannot read the API key in ${platform.apiKeyFile}`, { cause });
  }
}

function platformServices(config: CliConfig): Service[] {
  const apiUrl = localUrl(config.controlPlaneHost, config.controlPlanePort);
  const client = new AviaryClient({ apiUrl });
  const agent: Address = { host: config.agentHost, port: config.agentPort };
  const { apiKey: apiKeyFile, hostToken } = bootstrapFiles(config.dataDir);
  const { AVIARY_API_KEY: _key, AVIARY_API_URL: _url, ...inherited } = config.env;
  // Secrets of the control plane's are none of a host's business.
  const {
    AVIARY_DATABASE_URL: _db,
    AVIARY_SMTP_URL: _smtp,
    AVIARY_AUTH_PROVIDERS: _providers,
    AVIARY_METRICS_TOKEN: _metrics,
    ...ofHost
  } = inherited;
  const shared = { AVIARY_DATA_DIR: config.dataDir };
  const env = { NODE_COMPILE_CACHE: compileCache, ...inherited, ...shared };
  const agentEnv = { NODE_COMPILE_CACHE: compileCache, ...ofHost, ...shared };
  return [
    {
      name: 'control-plane',
      ...app('control-plane', unprotectedCode),
      env: { ...env, AVIARY_HOST: config.controlPlaneHost, AVIARY_PORT: String(config.controlPlanePort) },
      isReady: async (signal) => {
        await client.health({ signal, timeoutMs: 2_000 });
        return true;
      },
      readyTimeoutMs: readyTimeoutMs.controlPlane,
      isAlive: (signal) => answersHttp(`${apiUrl}/health`, signal),
      stopTimeoutMs: stopTimeoutMs.controlPlane,
    },
    {
      name: 'host-agent',
      ...app('host-agent', smallHeap),
      env: {
        ...smallArenas,
        ...agentEnv,
        AVIARY_CONTROL_PLANE_URL: apiUrl,
        AVIARY_AGENT_HOST: agent.host,
        AVIARY_AGENT_PORT: String(agent.port),
        AVIARY_HOST_TOKEN_FILE: hostToken,
      },
      // It listens once it has reconciled, and is online once the control plane has heard of it.
      isReady: async (signal) => {
        if (!(await isListening(agent, signal))) return false;
        const known = new AviaryClient({ apiUrl, apiKey: await readApiKey({ apiKeyFile }) });
        const hosts = await known.hosts.list({ signal, timeoutMs: 2_000 });
        return hosts.some(({ status, address }) => status === 'online' && address.endsWith(`:${agent.port}`));
      },
      readyTimeoutMs: readyTimeoutMs.hostAgent,
      isAlive: (signal) => answersHttp2(localUrl(agent.host, agent.port), signal),
      stopTimeoutMs: stopTimeoutMs.hostAgent,
    },
  ];
}

/** Stripped and compiled sources, so that later starts are quicker and hold no compiler's leftovers in memory. */
const compileCache = fileURLToPath(new URL('../../../../node_modules/.cache/node-compile', import.meta.url));

/**
 * For a program with the embedded database: where the processor has memory protection keys, V8's bookkeeping of the code that they protect
 * fails with WebAssembly of that size and ends the process (nodejs/node#64500).
 */
const unprotectedCode = ['--no-memory-protection-keys'];

/** For a program that idles beside the sandboxes it serves: a small young generation, and the right to collect when it comes to rest. */
const smallHeap = ['--max-semi-space-size=2', '--expose-gc'];

/**
 * The same for memory outside of the heap: file buffers come and go on several threads, and glibc would keep an arena's worth of them for
 * each. See mallopt(3).
 */
const smallArenas = { MALLOC_ARENA_MAX: '2', MALLOC_TRIM_THRESHOLD_: String(2 ** 20) };

function app(name: string, flags: readonly string[] = []): { file: string; args: string[] } {
  const main = fileURLToPath(new URL(`../../../${name}/src/main.ts`, import.meta.url));
  return { file: process.execPath, args: ['--disable-warning=ExperimentalWarning', ...flags, main] };
}
