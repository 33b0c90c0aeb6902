import { closeSync, openSync } from 'node:fs';
import { checkedCall, libcFunction } from './libc.ts';

const LOCK_EX = 2;
const LOCK_NB = 4;

/** An exclusive flock(2) on a file. The kernel drops it when the holder dies. */
export class FileLock {
  readonly path: string;
  #fd: number | undefined;

  private constructor(path: string, fd: number) {
    this.path = path;
    this.#fd = fd;
  }

  /** Takes the lock without waiting, creating the file (mode 0600) if needed; undefined when somebody else holds it. */
  static tryAcquire(path: string): FileLock | undefined {
    const flock = libcFunction('int flock(int, int)');
    const fd = openSync(path, 'a', 0o600);
    try {
      checkedCall('flock', () => flock(fd, LOCK_EX | LOCK_NB), path);
      return new FileLock(path, fd);
    } catch (error) {
      closeSync(fd);
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return undefined;
      throw error;
    }
  }

  release(): void {
    if (this.#fd === undefined) return;
    closeSync(this.#fd);
    this.#fd = undefined;
  }

  [Symbol.dispose](): void {
    this.release();
  }
}
