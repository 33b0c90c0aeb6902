import { mkdir, open, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '@aviary/core';

/**
 * Holds `directory` for this process: two PGlite instances on one directory would destroy it. A lock whose owner is gone
 * is taken over. Throws `conflict` naming the owner's pid.
 */
export async function lockDirectory(directory: string): Promise<AsyncDisposable> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const file = path.join(directory, '..', `${path.basename(directory)}.lock`);
  const identity = `${process.pid} ${await startTime(process.pid)}`;
  for (let attempt = 0; attempt < 3; attempt++) {
    try {
      const handle = await open(file, 'wx', 0o600);
      await handle.writeFile(identity);
      await handle.close();
      return { [Symbol.asyncDispose]: () => rm(file, { force: true }) };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const owner = await readFile(file, 'utf8').catch(() => '');
    const [pid, started] = owner.split(' ');
    if (pid && started && started === (await startTime(Number(pid)))) {
      throw new AppError('conflict', `the database in ${directory} is in use by process ${pid}; stop that one first`);
    }
    await rm(file, { force: true });
  }
  throw new AppError('conflict', `cannot lock the database in ${directory}: others keep taking it`);
}

/** The kernel's start time of a process (field 22 of /proc/PID/stat), or undefined when there is none: pids are reused. */
async function startTime(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
}
