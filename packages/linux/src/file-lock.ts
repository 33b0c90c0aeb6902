import { closeSync, existsSync, fstatSync, ftruncateSync, openSync, readFileSync, statSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { checkedCall, libcFunction } from './libc.ts';

const LOCK_EX = 2;
const LOCK_NB = 4;
const pollMs = 25;

/** What a holder wrote into its lock file, for whoever finds it taken. It informs and decides nothing. */
export interface LockNote {
  pid: number;
  [name: string]: unknown;
}

export interface AcquireOptions {
  /** How long to wait while somebody else holds the lock; `Infinity` waits for ever. */
  timeoutMs: number;
  /** Written into the file beside the process id. */
  note?: Readonly<Record<string, unknown>>;
  signal?: AbortSignal;
  /** Called once when the waiting begins. */
  onWait?: () => void;
}

/**
 * An exclusive flock(2) on a file: the one lock between processes of this repository. It is taken in one step by one process, and the
 * kernel drops it when the holder dies, however that comes: nothing stale is left to judge, and no child inherits it. The file stays
 * when the lock is given back; removing one that others may be opening would make two locks of one name.
 */
export class FileLock implements Disposable {
  readonly path: string;
  #fd: number | undefined;

  private constructor(path: string, fd: number) {
    this.path = path;
    this.#fd = fd;
  }

  /**
   * Takes the lock without waiting, creating the file (mode 0600) if needed; undefined when somebody else holds it. The note `null`
   * leaves the file as its last holder wrote it.
   */
  static tryAcquire(path: string, note: Readonly<Record<string, unknown>> | null = {}): FileLock | undefined {
    for (;;) {
      const fd = openLocked(path);
      if (fd === undefined) return undefined;
      if (!isStillAt(path, fd)) {
        closeSync(fd);
        continue;
      }
      const lock = new FileLock(path, fd);
      if (note) lock.setNote(note);
      return lock;
    }
  }

  /** Takes the lock, waiting for its holder; undefined when it is still held after `timeoutMs`. Throws when aborted. */
  static async acquire(path: string, options: AcquireOptions): Promise<FileLock | undefined> {
    const { timeoutMs, note = {}, signal, onWait } = options;
    const deadline = performance.now() + timeoutMs;
    for (let attempt = 0; ; attempt++) {
      signal?.throwIfAborted();
      const lock = FileLock.tryAcquire(path, note);
      if (lock) return lock;
      if (performance.now() >= deadline) return undefined;
      if (attempt === 0) onWait?.();
      // Aborted, the next turn throws the signal's own reason.
      await sleep(pollMs, undefined, signal ? { signal } : {}).catch(() => undefined);
    }
  }

  /** True while somebody holds the lock of a file that is there. */
  static isHeld(path: string): boolean {
    if (!existsSync(path)) return false;
    using lock = FileLock.tryAcquire(path, null);
    return lock === undefined;
  }

  /** What the present or last holder of a lock file wrote; undefined when there is nothing whole. */
  static readNote(path: string): LockNote | undefined {
    try {
      const note: unknown = JSON.parse(readFileSync(path, 'utf8'));
      const isNote = typeof note === 'object' && note !== null && 'pid' in note && typeof note.pid === 'number';
      return isNote ? (note as LockNote) : undefined;
    } catch {
      return undefined; // absent, or being written at this moment
    }
  }

  /** Replaces what the file says about its holder. */
  setNote(note: Readonly<Record<string, unknown>>): void {
    if (this.#fd === undefined) throw new Error(`${this.path} is not locked any more`);
    ftruncateSync(this.#fd, 0);
    writeSync(this.#fd, `${JSON.stringify({ pid: process.pid, ...note })}\n`);
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

function openLocked(path: string): number | undefined {
  const flock = libcFunction('int flock(int, int)');
  // Appending, so that opening it changes nothing of what its holder wrote.
  const fd = openSync(path, 'a', 0o600);
  try {
    checkedCall('flock', () => flock(fd, LOCK_EX | LOCK_NB), path);
    return fd;
  } catch (error) {
    closeSync(fd);
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return undefined;
    throw error;
  }
}

/** False when the file was removed or replaced between its opening and its locking. */
function isStillAt(path: string, fd: number): boolean {
  const mine = fstatSync(fd);
  const there = statSync(path, { throwIfNoEntry: false });
  return there?.ino === mine.ino && there.dev === mine.dev;
}
