import { closeSync, writeSync } from 'node:fs';
import { readdir, readFile, readlink, stat } from 'node:fs/promises';
import { Worker } from 'node:worker_threads';
import { PidFd } from '@aviary/linux';

export interface TakenOverOptions {
  pid: number;
  uid: number;
  gid: number;
  /** What it must not be able to change. Absolute. */
  files: readonly string[];
}

export interface TakenOverReport {
  /** Of its descriptors, those that could be opened for writing by their name in /proc. */
  reopened: string[];
  /** Every file that it sees, but its program's. */
  visible: string[];
  /** Of the files that it must not change, those that it could, in whichever way. */
  written: string[];
  /** Directories in which it could make a file. */
  made: string[];
}

/** Does what code that has taken over a VMM could: with its identity, in its mounts and its network, with no privilege. */
export function takeOverVmm(options: TakenOverOptions): Promise<TakenOverReport> {
  const worker = new Worker(new URL('./taken-over-vmm-thread.ts', import.meta.url), { workerData: options });
  return new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
    worker.once('exit', () => reject(new Error('the thread ended without a report')));
  });
}

/** A copy of the descriptor with which a process writes `file`, as it could have made for itself. The caller closes it. */
export async function copyWritableDescriptor(pid: number, file: string): Promise<number> {
  using process = PidFd.open(pid);
  for (const name of await readdir(`/proc/${pid}/fd`)) {
    if ((await readlink(`/proc/${pid}/fd/${name}`)) !== file) continue;
    const copy = process.copyDescriptor(Number(name));
    if (isWritable(copy)) return copy;
    closeSync(copy);
  }
  throw new Error(`process ${pid} does not write ${file}`);
}

/** The files that one of a process's descriptors can write, by `device:inode`; whether the kernel lets it is tried, with nothing written. */
export async function writableDescriptors(pid: number): Promise<Map<string, string>> {
  const writable = new Map<string, string>();
  using process = PidFd.open(pid);
  for (const name of await readdir(`/proc/${pid}/fd`)) {
    const copy = process.copyDescriptor(Number(name));
    try {
      const { dev, ino } = await stat(`/proc/self/fd/${copy}`);
      const flags = /^flags:\s+(\d+)$/m.exec(await readFile(`/proc/self/fdinfo/${copy}`, 'utf8'))?.[1] ?? '0';
      // A write of nothing is refused on a descriptor for reading, too.
      const isOpenForWriting = (Number.parseInt(flags, 8) & 3) !== 0;
      if (isOpenForWriting || isWritable(copy)) writable.set(`${dev}:${ino}`, `descriptor ${name}`);
    } finally {
      closeSync(copy);
    }
  }
  return writable;
}

function isWritable(fd: number): boolean {
  try {
    writeSync(fd, Buffer.alloc(0));
    return true;
  } catch {
    return false;
  }
}
