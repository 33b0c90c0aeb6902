import { type FSWatcher, watch } from 'node:fs';
import { join, relative } from 'node:path';
import { AppError } from '@aviary/core';
import { Inotify, type InotifyEvent, inotifyMask } from '@aviary/linux';
import { EventType, type FilesystemEventSchema } from '@aviary/proto/filesystem';
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { GuestUser, UserDatabase } from '../users/user-database.ts';
import { describeEntry } from './describe-entry.ts';
import type { FileAccess } from './file-access.ts';

export type WatchEvent = MessageInitShape<typeof FilesystemEventSchema>;

export interface WatchOptions {
  path: string;
  /** What this user may not list or look at is not watched. */
  user: GuestUser;
  isRecursive: boolean;
  /** Adds what the entry is at the time the event is read. */
  includesEntry: boolean;
  allowsNetworkMounts: boolean;
}

const watchLimits = { maxQueuedEvents: 8_192, maxDirectories: 4_096 } as const;
const listedAtOnce = 1_000;

interface WatchDeps {
  files: FileAccess;
  users: UserDatabase;
  /** The kernel's queue; closed with the watch. */
  inotify?: Pick<Inotify, 'add' | 'remove' | 'read' | 'close'>;
}

const watchedChanges =
  inotifyMask.create |
  inotifyMask.modify |
  inotifyMask.attributes |
  inotifyMask.remove |
  inotifyMask.movedFrom |
  inotifyMask.movedTo |
  inotifyMask.onlyDirectory;

/** Starts to watch a directory. Throws `not_found`, `forbidden`, and `invalid_request` for what is not a local directory. */
export async function watchDirectory(options: WatchOptions, deps: WatchDeps): Promise<DirectoryWatcher> {
  const { path } = options;
  const watcher = new DirectoryWatcher(options, deps);
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
  readonly #deps: WatchDeps;
  readonly #ended = new AbortController();
  readonly #inotify: NonNullable<WatchDeps['inotify']>;
  readonly #directories = new Map<number, { path: string; alarm: FSWatcher }>();
  #events: WatchEvent[] = [];
  #failure: AppError | undefined;
  #isDraining = false;
  #wake: () => void = () => undefined;

  constructor(options: WatchOptions, deps: WatchDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#inotify = deps.inotify ?? new Inotify();
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
    const { files } = this.#deps;
    const { user, allowsNetworkMounts, isRecursive } = this.#options;
    const signal = this.#ended.signal;
    const release = (opened: { fd: number }) => void files.io.close(opened.fd);
    const input = { path, allowsNetworkMounts };
    const { fd } = await files.threads.run('openDirectory', { user, input, signal, release });
    try {
      // By its descriptor: what the user may list is watched, whatever has its name by now.
      const opened = `/proc/self/fd/${fd}`;
      const number = this.#inotify.add(opened, watchedChanges);
      this.#directories.get(number)?.alarm.close();
      const alarm = watch(opened, { persistent: false }, () => this.#drain());
      alarm.on('error', () => alarm.close());
      this.#directories.set(number, { path, alarm });
    } finally {
      await files.io.close(fd);
    }
    if (!isRecursive) return;
    let after: readonly string[] | undefined;
    do {
      const list = { path, depth: 1, limit: listedAtOnce, ...(after ? { after } : {}) };
      const page = await files.threads.run('listDirectory', { user, input: list, signal });
      for (const entry of page.entries) {
        if (isNew) await this.#push(entry.path, EventType.CREATE);
        if (entry.type === 'directory' && entry.symlinkTarget === undefined) {
          await this.addDirectory(entry.path, isNew).catch(ignoreGone);
        }
      }
      after = page.next;
    } while (after);
  }

  [Symbol.dispose](): void {
    this.#ended.abort();
    for (const { alarm } of this.#directories.values()) alarm.close();
    this.#directories.clear();
    this.#inotify.close();
  }

  /**
   * Events are handled one batch after the other: looking at an entry waits, and order must not change. Meanwhile later ones stay in the
   * kernel's queue, whose length is bounded.
   */
  #drain(): void {
    if (this.#isDraining) return;
    this.#isDraining = true;
    this.#handleAll()
      .catch((error: unknown) => this.#fail(error))
      .finally(() => {
        this.#isDraining = false;
      });
  }

  async #handleAll(): Promise<void> {
    while (!this.#ended.signal.aborted) {
      const batch = this.#inotify.read();
      if (batch.length === 0) return;
      await this.#handle(batch);
    }
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
    const entry = this.#options.includesEntry ? await this.#describe(path).catch(ignoreGone) : undefined;
    this.#events.push({ name, type, ...(entry ? { entry } : {}) });
    this.#wake();
  }

  async #describe(path: string) {
    const { files, users } = this.#deps;
    const { user } = this.#options;
    const entry = await files.threads.run('readEntry', { user, input: { path }, signal: this.#ended.signal });
    return describeEntry(entry, users.names());
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

/** Gone since, something else by now, or not for this user. */
function ignoreGone(error: unknown): undefined {
  const isExpected = error instanceof AppError && ['not_found', 'forbidden', 'invalid_request'].includes(error.code);
  if (!isExpected) throw error;
}
