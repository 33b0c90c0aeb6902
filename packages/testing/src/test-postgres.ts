import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { chown, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { must } from '@aviary/core';
import { runProgram, waitFor } from '@aviary/service-kit';
import pg from 'pg';

const versionsDirectory = '/usr/lib/postgresql';
const account = 'postgres';
/** After a kill a new server is refused until the last process of the old one has gone. */
const retryStartMs = 10_000;

/** A throw-away PostgreSQL server on a Unix socket, gone with the test process. */
export interface TestPostgres extends AsyncDisposable {
  /** Makes an empty database and returns its URL. */
  createDatabase(): Promise<string>;
  /** Ends it as a crash would (SIGKILL); what was committed is there again after {@link TestPostgres.restart}. */
  kill(): Promise<void>;
  /** Starts a server that was killed, and resolves once it answers. */
  restart(): Promise<void>;
}

/** Starts a server in a temporary directory; installs Debian's package first when it is missing. */
export async function startTestPostgres(): Promise<TestPostgres> {
  const bin = await ensureInstalled();
  const directory = await mkdtemp(path.join(tmpdir(), 'aviary-pg-'));
  const isRoot = process.getuid?.() === 0;
  if (isRoot) {
    const ids = await Promise.all(
      ['-u', '-g'].map(async (flag) => Number((await runProgram('id', [flag, account])).stdout)),
    );
    await chown(directory, must(ids[0], 'id prints a number'), must(ids[1], 'id prints a number'));
  }
  // PostgreSQL refuses to run as root.
  const prefix = isRoot ? ['setpriv', `--reuid=${account}`, `--regid=${account}`, '--init-groups'] : ['setpriv'];
  const data = path.join(directory, 'data');
  await runAs(prefix, [path.join(bin, 'initdb'), '-D', data, '-A', 'trust', '-U', account, '-E', 'UTF8', '--no-sync']);
  const settings = {
    listen_addresses: '',
    unix_socket_directories: directory,
    fsync: 'off',
    max_connections: '200',
    log_min_messages: 'fatal',
  };
  const command = [
    path.join(bin, 'postgres'),
    '-D',
    data,
    ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
  ];
  const urlOf = (database: string) => `postgresql://${account}@${encodeURIComponent(directory)}/${database}`;
  let server = await startServer({ prefix, command, url: urlOf(account) });
  let count = 0;
  return {
    async createDatabase() {
      const name = `test_${++count}`;
      await query(urlOf(account), `CREATE DATABASE ${name}`);
      return urlOf(name);
    },
    kill: () => endServer(server, 'SIGKILL'),
    async restart() {
      server = await startServer({ prefix, command, url: urlOf(account) });
    },
    async [Symbol.asyncDispose]() {
      // Immediate shutdown: nothing here is worth keeping.
      await endServer(server, 'SIGQUIT');
      await rm(directory, { recursive: true, force: true });
    },
  };
}

async function ensureInstalled(): Promise<string> {
  const find = () => {
    const versions = existsSync(versionsDirectory) ? readdirSync(versionsDirectory) : [];
    const newest = versions.sort((a, b) => Number(b) - Number(a))[0];
    return newest && path.join(versionsDirectory, newest, 'bin');
  };
  const known = find();
  if (known) return known;
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } as Record<string, string>;
  await runProgram('apt-get', ['install', '-y', '--no-install-recommends', 'postgresql'], { env, timeoutMs: 300_000 });
  return must(find(), 'the postgresql package puts its programs under /usr/lib/postgresql');
}

async function runAs(prefix: string[], command: string[]): Promise<void> {
  const [file = '', ...args] = [...prefix, ...command];
  await runProgram(file, args, { cwd: '/', timeoutMs: 120_000 });
}

/** Starts the server, which dies with the test process, however that ends; resolves once it answers. */
async function startServer({
  prefix,
  command,
  url,
}: {
  prefix: string[];
  command: string[];
  url: string;
}): Promise<ChildProcess> {
  const [file = '', ...args] = [...prefix, '--pdeathsig=QUIT', ...command];
  const start = () => spawn(file, args, { cwd: '/', stdio: 'ignore' });
  const startedAt = Date.now();
  let server = start();
  await waitFor({ what: 'PostgreSQL answering', timeoutMs: 30_000, intervalMs: 50 }, async () => {
    if (server.exitCode !== null) {
      if (Date.now() - startedAt > retryStartMs) throw new Error(`postgres ended with ${server.exitCode}`);
      server = start();
    }
    return query(url, 'SELECT 1').then(
      () => true,
      () => false,
    );
  });
  return server;
}

async function endServer(server: ChildProcess, signal: 'SIGKILL' | 'SIGQUIT'): Promise<void> {
  const ended = new Promise((resolve) => server.once('exit', resolve));
  if (server.exitCode === null && server.signalCode === null && server.kill(signal)) await ended;
}

async function query(url: string, text: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(text);
  } finally {
    await client.end();
  }
}
