import { existsSync } from 'node:fs';
import { rm, rmdir } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline/promises';
import { AppError, errorText } from '@aviary/core';
import { AviaryClient, type Sandbox } from '@aviary/sdk';
import { waitFor } from '@aviary/service-kit';
import type { Command, CommandContext } from '../command.ts';
import { ExitWith, exitCodes } from '../exit-codes.ts';
import { livingStatuses } from '../sandboxes/find-sandbox.ts';
import { destroyAll } from '../sandboxes/wait-running.ts';
import { isRoot, runAsRoot } from './become-root.ts';
import { findLeftMicroVms } from './left-micro-vms.ts';
import { findPlatform } from './platform-lock.ts';
import { readApiKey, startPlatform } from './start-platform.ts';

const settleSec = 300;
const stopTimeoutMs = 30_000;
const pausedAtOnce = 4;
/** What a platform keeps in its data directory; nothing else there is touched. */
const ownDirectories = ['bootstrap', 'control-plane', 'host', 'images', 'logs'];
const ownFiles = ['up.json', 'up.lock', 'ports.json'];

/** `aviary down`: nothing of the platform runs on this machine any more. */
export const downCommand: Command = {
  name: 'down',
  summary: 'Stop everything that Aviary runs on this machine',
  details: [
    'Pauses every running sandbox, with its memory, then stops the platform. The next `aviary up` finds all of them.',
    'With --purge every sandbox and snapshot is destroyed, and the data directory is emptied; what stays are the Debian packages',
    'that were installed, and until the next boot net.ipv4.ip_forward=1, an empty cgroup and a firewall table without links.',
  ].join('\n'),
  flags: {
    purge: { type: 'boolean', summary: 'destroy all sandboxes, snapshots and images as well' },
    yes: { type: 'boolean', short: 'y', summary: 'do not ask' },
  },
  examples: ['aviary down', 'aviary down --purge'],
  async run(context, { flags }) {
    const { config, output, signal } = context;
    const onNote = (text: string) => output.note(text);
    if (!isRoot())
      throw new ExitWith(await runAsRoot({ what: "'aviary down'", env: config.env, note: onNote, signal }));
    if (!existsSync(path.join(config.dataDir, 'control-plane')) && !existsSync(path.join(config.dataDir, 'host')))
      throw new AppError('not_found', `there is no platform in ${config.dataDir}; AVIARY_DATA_DIR says where to look`);
    const isPurge = flags.boolean('purge');
    if (isPurge && !flags.boolean('yes')) await confirmPurge(context);
    const { sandboxes, stop } = await reachPlatform(context);
    const done = await (isPurge ? destroyEach(context, sandboxes) : pauseEach(context, sandboxes)).finally(stop);
    const left = await findLeftMicroVms(config.dataDir);
    if (isPurge) {
      // Of other teams, whose sandboxes this one's key does not name: their files go, so they must not go on.
      for (const pid of left) killIfThere(pid);
      await removeData(config.dataDir);
    } else if (left.length > 0) throw stillRunning(left.length);
    const result = {
      data_dir: config.dataDir,
      purged: isPurge,
      paused: isPurge ? 0 : done,
      destroyed: isPurge ? done : 0,
    };
    output.result(result, () =>
      isPurge ? `stopped and removed; ${done} sandboxes destroyed` : `stopped; ${done} sandboxes paused`,
    );
    signal.throwIfAborted();
  },
};

interface Reached {
  sandboxes: AviaryClient['sandboxes'];
  /** Stops the platform's services and waits for their end. */
  stop: () => Promise<void>;
}

/** The platform of the data directory: the one that runs, or else one that is started to find what runs without it. */
async function reachPlatform({ config, output, signal }: CommandContext): Promise<Reached> {
  const apiKeyFile = path.join(config.dataDir, 'bootstrap', 'api-key');
  const holder = await findPlatform(config.dataDir);
  if (holder) {
    const { sandboxes } = new AviaryClient({ apiUrl: holder.apiUrl, apiKey: await readApiKey({ apiKeyFile }) });
    return { sandboxes, stop: () => endPlatform(config.dataDir, holder.pid) };
  }
  output.note('the platform does not run; starting it to find its sandboxes');
  const platform = await startPlatform({ config, signal, onLine: () => undefined });
  const { sandboxes } = new AviaryClient({ apiUrl: platform.apiUrl, apiKey: await readApiKey(platform) });
  return { sandboxes, stop: async () => await platform[Symbol.asyncDispose]() };
}

async function endPlatform(dataDir: string, pid: number): Promise<void> {
  process.kill(pid, 'SIGTERM');
  await waitFor(
    { what: `the end of process ${pid}, which runs the platform`, timeoutMs: stopTimeoutMs, intervalMs: 50 },
    async () => (await findPlatform(dataDir)) === undefined,
  );
}

/** Resolves with how many were paused. Throws when one could not be: its memory would be lost without a word. */
async function pauseEach({ output, signal }: CommandContext, sandboxes: AviaryClient['sandboxes']): Promise<number> {
  const running = await Array.fromAsync(sandboxes.list({ status: ['running'], pageSize: 200 }, { signal }));
  const failed: string[] = [];
  for (let at = 0; at < running.length; at += pausedAtOnce) {
    output.progress(`pausing sandboxes … ${at} of ${running.length}`);
    const batch = running.slice(at, at + pausedAtOnce);
    await Promise.all(
      batch.map((sandbox) =>
        pauseOne(sandbox, sandboxes).catch((error: unknown) => failed.push(`${sandbox.id}: ${errorText(error)}`)),
      ),
    );
  }
  if (failed.length > 0)
    throw new AppError(
      'internal',
      `${failed.length} sandboxes could not be paused and still run: ${failed.join('; ')}; remove them with 'aviary up' and 'aviary sandbox rm', or all with 'aviary down --purge'`,
    );
  return running.length;
}

async function pauseOne({ id }: Sandbox, sandboxes: AviaryClient['sandboxes']): Promise<void> {
  const paused = await sandboxes.pause(id, { waitSec: settleSec });
  if (paused.status !== 'paused') throw new Error(`it is ${paused.status}`);
}

async function destroyEach({ output, signal }: CommandContext, sandboxes: AviaryClient['sandboxes']): Promise<number> {
  const all = await Array.fromAsync(sandboxes.list({ status: livingStatuses, pageSize: 200 }, { signal }));
  output.progress(`destroying ${all.length} sandboxes …`);
  await destroyAll(
    { sandboxes },
    all.map(({ id }) => id),
    { waitSec: settleSec, signal },
  );
  return all.length;
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

function stillRunning(count: number): AppError {
  return new AppError(
    'invalid_state',
    `the platform is stopped, but ${count} microVMs of other teams go on: start it with 'aviary up' and pause them with their teams' keys, or end all with 'aviary down --purge'`,
  );
}

async function confirmPurge({ config, output, signal }: CommandContext): Promise<void> {
  if (process.stdin.isTTY !== true)
    throw new AppError('invalid_request', 'there is no terminal to ask on: say --yes to destroy everything');
  output.note(`This destroys every sandbox, every snapshot and all images in ${config.dataDir}.`);
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await lines.question('Type "purge" to go on: ', { signal });
    if (answer.trim() !== 'purge') throw new ExitWith(exitCodes.failure);
  } finally {
    lines.close();
  }
}

async function removeData(dataDir: string): Promise<void> {
  for (const name of [...ownDirectories, ...ownFiles])
    await rm(path.join(dataDir, name), { recursive: true, force: true, maxRetries: 5 });
  await rmdir(dataDir).catch(() => undefined); // others' files may be there
}
