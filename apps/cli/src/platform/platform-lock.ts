import { readFileSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '@aviary/core';
import { FileLock } from '@aviary/linux/file-lock';
import { writeDurableFile } from '@aviary/service-kit';

/** Who runs the platform of a data directory; `startTicks` tells the process from a later one with its number. */
export interface Holder {
  pid: number;
  startTicks: string;
  apiUrl: string;
}

/** The right to run the platform of one data directory. Disposing gives it back. */
export interface PlatformLock extends AsyncDisposable {
  /** True when the holder before ended without giving it back: its services may still be stopping. */
  isAfterCrash: boolean;
  /** Tells others on this machine who has it, and where the API will be. */
  announce(apiUrl: string): Promise<void>;
}

/**
 * Takes the right to run the platform of `dataDir`. Throws `already_exists` that says who has it.
 *
 * What decides is the kernel's lock on `up.lock`, which only root can open. `up.json`, which all may read, says who has it.
 */
export async function takePlatformLock(dataDir: string): Promise<PlatformLock> {
  const lock = FileLock.tryAcquire(path.join(dataDir, 'up.lock'));
  if (!lock) throw await refusal(dataDir);
  const file = holderFile(dataDir);
  let isAnnounced = false;
  return {
    isAfterCrash: readHolder(dataDir) !== undefined,
    announce: async (apiUrl) => {
      const holder: Holder = { pid: process.pid, startTicks: (await readStartTicks(process.pid)) ?? '', apiUrl };
      await writeDurableFile(file, `${JSON.stringify(holder)}\n`, 0o644);
      isAnnounced = true;
    },
    [Symbol.asyncDispose]: async () => {
      // What a holder before left after a crash stays until somebody has seen to the end of its services.
      if (isAnnounced) await rm(file, { force: true });
      lock.release();
    },
  };
}

/** Who runs the platform of `dataDir` now; undefined when nobody does. */
export async function findPlatform(dataDir: string): Promise<Holder | undefined> {
  const holder = readHolder(dataDir);
  return holder && (await readStartTicks(holder.pid)) === holder.startTicks ? holder : undefined;
}

function holderFile(dataDir: string): string {
  return path.join(dataDir, 'up.json');
}

async function refusal(dataDir: string): Promise<AppError> {
  const holder = await findPlatform(dataDir);
  const who = holder ? ` as process ${holder.pid}, its API is ${holder.apiUrl}` : '';
  return new AppError(
    'already_exists',
    `Aviary runs on ${dataDir} already${who}; stop that one first, or set AVIARY_DATA_DIR to run another beside it`,
    { details: holder ? { pid: holder.pid, api_url: holder.apiUrl } : {} },
  );
}

/** The URL of the API of the platform that runs, or ran until a crash, on `dataDir`; undefined when none says one. */
export function readAnnouncedUrl(dataDir: string): string | undefined {
  return readHolder(dataDir)?.apiUrl;
}

function readHolder(dataDir: string): Holder | undefined {
  try {
    const holder = JSON.parse(readFileSync(holderFile(dataDir), 'utf8')) as Partial<Holder>;
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
