import { AppError } from '@aviary/core';
import { FileLock } from '@aviary/linux/file-lock';

/**
 * Makes this process the one agent of a data directory: two would both recover, collect and end each other's microVMs. Waits for
 * an agent that is about to end. Throws `conflict` naming the one that is still there after `timeoutMs`.
 */
export async function lockDataDirectory({
  dataDir,
  lockFile,
  timeoutMs,
}: {
  dataDir: string;
  lockFile: string;
  timeoutMs: number;
}): Promise<Disposable> {
  const lock = await FileLock.acquire(lockFile, { timeoutMs });
  if (lock) return lock;
  const holder = FileLock.readNote(lockFile);
  throw new AppError(
    'conflict',
    `a host agent runs on ${dataDir} already${holder ? ` (process ${holder.pid})` : ''}; stop that one first, or set AVIARY_DATA_DIR to run another`,
    { details: holder ? { pid: holder.pid } : {} },
  );
}
