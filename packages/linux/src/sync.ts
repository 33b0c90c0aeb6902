import { closeSync, openSync } from 'node:fs';
import { koffi, libcFunction, SystemCallError } from './libc.ts';

/**
 * Writes the dirty data of the file system that holds `path` to its device. Runs on a worker thread: the event loop goes on.
 * Rejects with the device's error (`EIO`, `ENOSPC`), which sync(2) would swallow.
 */
export async function syncFileSystem(path: string): Promise<void> {
  const syncfs = libcFunction('int syncfs(int)') as unknown as {
    async(fd: number, done: (error: Error | null, result: number) => void): void;
  };
  const fd = openSync(path, 'r');
  try {
    await new Promise<void>((resolve, reject) => {
      syncfs.async(fd, (error, result) => {
        if (error) reject(error);
        else if (result < 0) reject(new SystemCallError('syncfs', koffi().errno() || 5, path));
        else resolve();
      });
    });
  } finally {
    closeSync(fd);
  }
}
