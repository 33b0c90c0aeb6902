import { createHash } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Filesystem } from '@aviary/proto/filesystem';
import { Process } from '@aviary/proto/process';
import { waitFor } from '@aviary/service-kit/deadline';
import { ConnectError, createClient, type Interceptor } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { expect } from 'vitest';
import type { GuestMachine } from './lifecycle/guest-machine.ts';
import { type GuestAgent, startGuestAgent } from './start.ts';

export const hostToken = 'host-secret';
export const accessToken = 'sandbox-secret';
export const isRoot = process.getuid?.() === 0;
/** Where this machine offers cgroup v2; a test that needs groups is skipped without. */
const cgroupMount = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'].find(
  (path) => isRoot && existsSync(join(path, 'cgroup.procs')),
);
export const cgroupRoot = cgroupMount && join(cgroupMount, `aviary-agent-test-${process.pid}`);

const machine = (applied: string[]): GuestMachine => ({
  setClock: (unixMs) => applied.push(`clock ${unixMs}`),
  addEntropy: (bytes) => applied.push(`entropy ${bytes.length}`),
  setIdentity: ({ hostname, machineId }) => applied.push(`identity ${hostname} ${machineId}`),
  dropStaleConnections: () => true,
  flushNeighbours: () => applied.push('neighbours'),
  syncDisks: async () => void applied.push('sync'),
  dirtyBytes: () => 0,
});

type ProcessClient = ReturnType<TestAgent['clients']>['process'];
type StartInput = Parameters<ProcessClient['start']>[0];
type StartOptions = { stdin?: boolean; tag?: string; cwd?: string };

/** An agent on this machine that has been told who it is, and clients of it. */
export class TestAgent implements AsyncDisposable {
  readonly agent: GuestAgent;
  /** For files of a test; every user may enter it. */
  readonly directory: string;
  /** What the agent did to the machine. */
  readonly applied: readonly string[];
  readonly base: string;

  private constructor(agent: GuestAgent, directory: string, applied: readonly string[]) {
    this.agent = agent;
    this.directory = directory;
    this.applied = applied;
    this.base = `http://127.0.0.1:${agent.port}`;
  }

  static async start(): Promise<TestAgent> {
    if (cgroupRoot) mkdirSync(cgroupRoot);
    const directory = mkdtempSync(join(tmpdir(), 'aviary-agent-'));
    chmodSync(directory, 0o755);
    const applied: string[] = [];
    const agent = await startGuestAgent(
      {
        host: '127.0.0.1',
        port: 0,
        hostTokenSha256: createHash('sha256').update(hostToken).digest('hex'),
        cgroupRoot,
        launcher: { shell: ['/bin/sh'], env: ['/usr/bin/env'] },
      },
      { machine: machine(applied), retention: { unreadMs: 60_000, readMs: 5_000, maxEnded: 64 } },
    );
    const started = new TestAgent(agent, directory, applied);
    const response = await started.initialize();
    expect(response.status, await response.text()).toBe(204);
    return started;
  }

  initialize(changes: Record<string, unknown> = {}): Promise<Response> {
    return fetch(`${this.base}/init`, {
      method: 'POST',
      headers: { 'x-aviary-host-token': hostToken, 'content-type': 'application/json' },
      body: JSON.stringify({
        accessToken,
        timestampMs: 1_700_000_000_000,
        entropyBase64: Buffer.alloc(64, 7).toString('base64'),
        hostname: 'sandbox-1',
        machineId: '0123456789abcdef0123456789abcdef',
        envVars: { FROM_SANDBOX: 'yes' },
        ...changes,
      }),
    });
  }

  clients({ user, token = accessToken, json = true }: { user?: string; token?: string; json?: boolean } = {}) {
    const authenticate: Interceptor = (next) => (request) => {
      request.header.set('x-access-token', token);
      if (user !== undefined)
        request.header.set('authorization', `Basic ${Buffer.from(`${user}:`).toString('base64')}`);
      return next(request);
    };
    const transport = createConnectTransport({
      baseUrl: this.base,
      httpVersion: '1.1',
      useBinaryFormat: !json,
      interceptors: [authenticate],
    });
    return { process: createClient(Process, transport), filesystem: createClient(Filesystem, transport) };
  }

  /** Starts a command and returns its pid without reading further. */
  async startAndLeave(command: string, more: StartOptions = {}): Promise<number> {
    // Leaving the loop alone would keep the connection.
    const connection = new AbortController();
    try {
      for await (const { event } of this.clients().process.start(shell(command, more), { signal: connection.signal })) {
        if (event?.event.case === 'start') return event.event.value.pid;
      }
    } finally {
      connection.abort();
    }
    return expect.fail('no start event');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.agent[Symbol.asyncDispose]();
    rmSync(this.directory, { recursive: true, force: true });
    if (!cgroupRoot) return;
    await waitFor({ what: 'removal of the test cgroup', timeoutMs: 5_000 }, () => {
      try {
        for (const name of readdirSync(join(cgroupRoot, 'user'))) {
          if (/^p\d+$/.test(name)) rmdirSync(join(cgroupRoot, 'user', name));
        }
        rmdirSync(join(cgroupRoot, 'user'));
        rmdirSync(cgroupRoot);
        return true;
      } catch {
        return false;
      }
    });
  }
}

export interface Finished {
  pid: number;
  stdout: Buffer;
  stderr: Buffer;
  pty: Buffer;
  exitCode: number | undefined;
  status: string | undefined;
  kinds: string[];
}

/** Reads a command's events to the end. */
export async function collect(
  stream: AsyncIterable<{ event?: { event: { case?: string | undefined; value?: unknown } } | undefined }>,
): Promise<Finished> {
  const parts: Record<string, Buffer[]> = { stdout: [], stderr: [], pty: [] };
  const finished: Finished = {
    pid: 0,
    stdout: Buffer.alloc(0),
    stderr: Buffer.alloc(0),
    pty: Buffer.alloc(0),
    exitCode: undefined,
    status: undefined,
    kinds: [],
  };
  for await (const { event } of stream) {
    const inner = event?.event;
    finished.kinds.push(String(inner?.case));
    if (inner?.case === 'start') finished.pid = (inner.value as { pid: number }).pid;
    if (inner?.case === 'end') {
      const end = inner.value as { exitCode: number; status: string };
      finished.exitCode = end.exitCode;
      finished.status = end.status;
    }
    if (inner?.case === 'data') {
      const { output } = inner.value as { output: { case: string; value: Uint8Array } };
      parts[output.case]?.push(Buffer.from(output.value));
    }
  }
  for (const name of ['stdout', 'stderr', 'pty'] as const) finished[name] = Buffer.concat(parts[name] ?? []);
  return finished;
}

export function shell(command: string, { cwd, ...more }: StartOptions = {}): StartInput {
  return { process: { cmd: '/bin/sh', args: ['-c', command], ...(cwd === undefined ? {} : { cwd }) }, ...more };
}

/** The error that a call ends with. */
export async function failure(work: Promise<unknown>): Promise<ConnectError> {
  return work.then(
    () => expect.fail('the call succeeded'),
    (error: unknown) => ConnectError.from(error),
  );
}

export function isAlive(pid: number): boolean {
  try {
    // A zombie that its parent has not collected is dead all the same.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
