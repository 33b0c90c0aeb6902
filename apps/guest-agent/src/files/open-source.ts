import { closeSync, constants, fstatSync, openSync, realpathSync, statSync } from 'node:fs';
import { failedTo, type OperationContext } from './operation-context.ts';
import { refuseSpecialFile } from './special-file.ts';

/** A file opened for reading. Who gets it closes the descriptor. */
export interface OpenSource {
  fd: number;
  size: number;
  modifiedMs: number;
}

/** Opens a regular file for reading. Never waits: the descriptor is non-blocking, for files of /proc that wait for news. */
export function openSource(_context: OperationContext, { path }: { path: string }): OpenSource {
  try {
    refuseSpecialFile(statSync(path), 'read', path);
    // By its own name: links of /proc to what this process has open lead past the directories that the user may not enter.
    const name = realpathSync.native(path);
    const fd = openSync(name, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY | constants.O_NOFOLLOW);
    try {
      const stats = fstatSync(fd);
      // Another file may have got the name since.
      refuseSpecialFile(stats, 'read', path);
      return { fd, size: stats.size, modifiedMs: stats.mtimeMs };
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  } catch (error) {
    throw failedTo('read', path, error);
  }
}
