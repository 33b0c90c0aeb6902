import { type FSWatcher, watch } from 'node:fs';
import { readdir, stat, statfs } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { AppError } from '@aviary/core';
import { Inotify, type InotifyEvent, inotifyMask } from '@aviary/linux';
import { EventType, type FilesystemEventSchema } from '@aviary/proto/filesystem';
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { UserDatabase } from '../users/user-database.ts';
import { readEntry } from './entry-info.ts';

export type WatchEvent = MessageInitShape<typeof FilesystemEventSchema>;

export interface WatchOptions {
  path: string;
  isRecursive: boolean;
  /** Adds what the entry is at the time the event is read. */
  includesEntry: boolean;
  allowsNetworkMounts: boolean;
}

const watchLimits = { maxQueuedEvents: 8_192, maxDirectories: 4_096 } as const;

/** Magic numbers of statfs(2): NFS, SMB, SMB2, CIFS, Ceph, 9p, FUSE. Changes made elsewhere raise no events there. */
const networkFileSystems = new Set([0x6969, 0x517b, 0xfe534d42, 0xff534d42, 0x00c36400, 0x01021997, 0x65735546]);

const watchedChanges =
  inotifyMask.create |
  inotifyMask.modify |
  inotifyMask.attributes |
  inotifyMask.remove |
  inotifyMask.movedFrom |
  inotifyMask.movedTo |
  inotifyMask.onlyDirectory;

/** Starts to watch a directory. Throws `not_found`, and `invalid_request` for what is not a local directory. */
export async function watchDirectory(options: WatchOptions, users: UserDatabase): Promise<DirectoryWatcher> {
  const { path, allowsNetworkMounts } = options;
  if (!(await stat(path)).isDirectory()) {
    throw new AppError('invalid_request', `cannot watch ${JSON.stringify(path)}: it is not a directory`);
  }
  if (!allowsNetworkMounts && networkFileSystems.has((await statfs(path)).type)) {
    throw new AppError(
      'invalid_request',
      `cannot watch ${JSON.stringify(path)}: it is a network mount, which hides changes`,
    );
  }
  const watcher = new DirectoryWatcher(options, users);
  try {
    await watcher.addDirectory(path);
    return watcher;
  } catch (error) {
    watcher[Symbol.dispose]();
    throw error;
  }
}

/**
 * Changes in a directory, as inotify tells them: a rename is RENAME of the old name and CREATE of the new one. Node's own
 * watcher cannot tell a write from a chmod, so it only wakes this one up, which then reads its own queue without waiting.
 */
export class DirectoryWatcher {
  readonly #options: WatchOptions;
  readonly #users: UserDatabase;
  readonly #inotify = new Inotify();
  readonly #directories = new Map<number, { path: string; alarm: FSWatcher }>();
  #events: WatchEvent[] = [];
  #failure: AppError | undefined;
  #work: Promise<void> = Promise.resolve();
  #wake: () => void = () => undefined;

  constructor(options: WatchOptions, users: UserDatabase) {
    this.#options = options;
    this.#users = users;
  }

  /** The events so far, and an empty list when none came within `idleMs`. Throws when the watch failed or was aborted. */
  async next(signal: AbortSignal, idleMs: number): Promise<WatchEvent[]> {
    signal.throwIfAborted();
    if (this.#events.length === 0 && !this.#failure) {
      await new Promise<void>((resolve) => {
        const done = () => {
          clearTimeout(timer);
          signal.removeEventListener('abort', done);
          this.#wake = () => undefined;
          resolve();
        };
        const timer = setTimeout(done, idleMs);
        this.#wake = done;
        signal.addEventListener('abort', done, { once: true });
      });
      signal.throwIfAborted();
    }
    return this.take();
  }

  /** The events so far. Throws when the watch failed. */
  take(): WatchEvent[] {
    const taken = this.#events;
    this.#events = [];
    if (taken.length === 0 && this.#failure) throw this.#failure;
    return taken;
  }

  /** Watches `path`, and all below it when recursive. What is below a directory that just appeared is reported as created. */
  async addDirectory(path: string, isNew = false): Promise<void> {
    if (this.#directories.size >= watchLimits.maxDirectories) {
      throw new AppError('quota_exceeded', `cannot watch more than ${watchLimits.maxDirectories} directories at once`);
    }
    const number = this.#inotify.add(path, watchedChanges);
    this.#directories.get(number)?.alarm.close();
    const alarm = watch(path, { persistent: false }, () => this.#drain());
    alarm.on('error', () => alarm.close());
    this.#directories.set(number, { path, alarm });
    if (!this.#options.isRecursive) return;
    for (const entry of await readdir(path, { withFileTypes: true })) {
      const child = join(path, entry.name);
      if (isNew) await this.#push(child, EventType.CREATE);
      if (entry.isDirectory()) await this.addDirectory(child, isNew);
    }
  }

  [Symbol.dispose](): void {
    for (const { alarm } of this.#directories.values()) alarm.close();
    this.#directories.clear();
    this.#inotify.close();
  }

  /** Events are handled one batch after the other: looking at an entry waits, and order must not change. */
  #drain(): void {
    const batch = this.#inotify.read();
    if (batch.length === 0) return;
    this.#work = this.#work.then(() => this.#handle(batch)).catch((error: unknown) => this.#fail(error));
  }

  async #handle(batch: readonly InotifyEvent[]): Promise<void> {
    for (const event of batch) {
      if (event.mask & inotifyMask.queueOverflow) throw tooManyEvents();
      const directory = this.#directories.get(event.watch);
      if (!directory) continue;
      if (event.mask & inotifyMask.ignored) {
        directory.alarm.close();
        this.#directories.delete(event.watch);
        if (directory.path === this.#options.path) {
          throw new AppError('not_found', `the watched directory ${JSON.stringify(directory.path)} was removed`);
        }
        continue;
      }
      const type = eventType(event.mask);
      if (type === undefined || event.name === '') continue;
      const path = join(directory.path, event.name);
      await this.#push(path, type);
      if (type === EventType.CREATE && event.mask & inotifyMask.isDirectory && this.#options.isRecursive) {
        await this.addDirectory(path, true).catch(ignoreGone);
      }
      if (event.mask & inotifyMask.movedFrom && event.mask & inotifyMask.isDirectory) this.#removeBelow(path);
    }
  }

  async #push(path: string, type: EventType): Promise<void> {
    const name = relative(this.#options.path, path);
    const last = this.#events.at(-1);
    // A program that writes in small pieces raises an event for each; in a row they say the same.
    if (type === EventType.WRITE && last?.name === name && last.type === type) return;
    if (this.#events.length >= watchLimits.maxQueuedEvents) throw tooManyEvents();
    const entry = this.#options.includesEntry ? await readEntry(path, this.#users).catch(ignoreGone) : undefined;
    this.#events.push({ name, type, ...(entry ? { entry } : {}) });
    this.#wake();
  }

  /** A directory that was moved away would go on reporting under its old name. */
  #removeBelow(path: string): void {
    for (const [number, directory] of this.#directories) {
      if (directory.path !== path && !directory.path.startsWith(`${path}/`)) continue;
      directory.alarm.close();
      this.#directories.delete(number);
      this.#inotify.remove(number);
    }
  }

  #fail(error: unknown): void {
    this.#failure ??=
      error instanceof AppError ? error : new AppError('internal', 'the watch failed', { cause: error });
    this.#wake();
  }
}

function tooManyEvents(): AppError {
  return new AppError('rate_limited', 'changes came faster than they were read and some were dropped; watch again');
}

function eventType(mask: number): EventType | undefined {
  if (mask & (inotifyMask.create | inotifyMask.movedTo)) return EventType.CREATE;
  if (mask & inotifyMask.movedFrom) return EventType.RENAME;
  if (mask & inotifyMask.remove) return EventType.REMOVE;
  if (mask & inotifyMask.modify) return EventType.WRITE;
  if (mask & inotifyMask.attributes) return EventType.CHMOD;
  return undefined;
}

function ignoreGone(error: unknown): undefined {
  const { code } = error as NodeJS.ErrnoException;
  if (code !== 'ENOENT' && code !== 'ENOTDIR') throw error;
}
