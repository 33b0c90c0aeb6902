import { createHash } from 'node:crypto';
import { readFile, realpath, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { AppError } from '@aviary/core';
import { writeDurableFile } from '@aviary/service-kit';

/** Who runs the platform of a data directory; `startTicks` tells the process from a later one with its number. */
interface Holder {
  pid: number;
  startTicks: string;
  apiUrl: string;
}

/** The right to run the platform of one data directory. Disposing gives it back. */
export interface PlatformLock extends AsyncDisposable {
  /** True when the holder before ended without giving it back: its services may still be stopping. */
  isAfterCrash: boolean;
}

/**
 * Takes the right to run the platform of `dataDir`. Throws `already_exists` that says who has it.
 *
 * What decides is a Unix socket in the kernel's abstract namespace, named after the directory: taken in one step by one
 * process, and given back by the kernel however the process ends. `up.json` only says who that is.
 */
export async function takePlatformLock(dataDir: string, apiUrl: string): Promise<PlatformLock> {
  const file = path.join(dataDir, 'up.json');
  const name = createHash('sha256')
    .update(await realpath(dataDir))
    .digest('hex')
    .slice(0, 32);
  const server = createServer((socket) => socket.destroy());
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(`\0aviary-up-${name}`, resolve);
    });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    throw await refusal(file, dataDir);
  }
  server.unref();
  const previous = await readHolder(file);
  const holder: Holder = { pid: process.pid, startTicks: (await readStartTicks(process.pid)) ?? '', apiUrl };
  await writeDurableFile(file, `${JSON.stringify(holder)}\n`, 0o644);
  return {
    isAfterCrash: previous !== undefined,
    [Symbol.asyncDispose]: async () => {
      await rm(file, { force: true });
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function refusal(file: string, dataDir: string): Promise<AppError> {
  const holder = await readHolder(file);
  const isAlive = holder !== undefined && (await readStartTicks(holder.pid)) === holder.startTicks;
  const who = isAlive ? ` as process ${holder.pid}, its API is ${holder.apiUrl}` : '';
  return new AppError(
    'already_exists',
    `Aviary runs on ${dataDir} already${who}; stop that one first, or set AVIARY_DATA_DIR to run another`,
    { details: isAlive ? { pid: holder.pid, api_url: holder.apiUrl } : {} },
  );
}

async function readHolder(file: string): Promise<Holder | undefined> {
  try {
    const holder = JSON.parse(await readFile(file, 'utf8')) as Partial<Holder>;
    const isWhole =
      typeof holder.pid === 'number' && typeof holder.startTicks === 'string' && typeof holder.apiUrl === 'string';
    return isWhole ? (holder as Holder) : undefined;
  } catch {
    return undefined; // absent, or cut short by a crash: it only ever informs
  }
}

/** When a process started, in clock ticks since boot (proc_pid_stat(5), field 22); undefined when there is none. */
export async function readStartTicks(pid: number): Promise<string | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    // The second field is the program's name in parentheses and may hold spaces and parentheses itself.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}
