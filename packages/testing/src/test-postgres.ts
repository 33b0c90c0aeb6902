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

/** A throw-away PostgreSQL server on a Unix socket, gone with the test process. */
export interface TestPostgres extends AsyncDisposable {
  /** Makes an empty database and returns its URL. */
  createDatabase(): Promise<string>;
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
  const server = startServer(prefix, [
    path.join(bin, 'postgres'),
    '-D',
    data,
    ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
  ]);
  const urlOf = (database: string) => `postgresql://${account}@${encodeURIComponent(directory)}/${database}`;
  await waitFor({ what: 'PostgreSQL answering', timeoutMs: 30_000, intervalMs: 50 }, async () => {
    if (server.exitCode !== null) throw new Error(`postgres ended with ${server.exitCode}`);
    return query(urlOf(account), 'SELECT 1').then(
      () => true,
      () => false,
    );
  });
  let count = 0;
  return {
    async createDatabase() {
      const name = `test_${++count}`;
      await query(urlOf(account), `CREATE DATABASE ${name}`);
      return urlOf(name);
    },
    async [Symbol.asyncDispose]() {
      const ended = new Promise((resolve) => server.once('exit', resolve));
      // Immediate shutdown: nothing here is worth keeping.
      if (server.exitCode === null && server.kill('SIGQUIT')) await ended;
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

/** The server dies with the test process, however that ends. */
function startServer(prefix: string[], command: string[]): ChildProcess {
  const [file = '', ...args] = [...prefix, '--pdeathsig=QUIT', ...command];
  return spawn(file, args, { cwd: '/', stdio: 'ignore' });
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
