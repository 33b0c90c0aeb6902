import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '@aviary/core';
import { FileLock } from '@aviary/linux/file-lock';

/**
 * Holds `directory` for this process: two PGlite instances on one directory would destroy it. Waits for a process that is about to
 * end. Throws `conflict` naming the owner when it is still there after `timeoutMs`.
 */
export async function lockDirectory(directory: string, { timeoutMs }: { timeoutMs: number }): Promise<Disposable> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const file = path.join(directory, '..', `${path.basename(directory)}.lock`);
  const lock = await FileLock.acquire(file, { timeoutMs });
  if (lock) return lock;
  const owner = FileLock.readNote(file);
  throw new AppError(
    'conflict',
    `the database in ${directory} is in use by ${owner ? `process ${owner.pid}` : 'another process'}; stop that one first`,
    { details: owner ? { pid: owner.pid } : {} },
  );
}
