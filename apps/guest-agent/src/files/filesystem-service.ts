import { randomUUID } from 'node:crypto';
import { lstat, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AppError, fileLimits } from '@aviary/core';
import type { Filesystem, WatchDirRequest } from '@aviary/proto/filesystem';
import type { HandlerContext, ServiceImpl } from '@connectrpc/connect';
import { serverStream, unary } from '../rpc/connect-error.ts';
import { callUser, keepaliveMs } from '../rpc/request-context.ts';
import type { SandboxSettings } from '../sandbox-settings.ts';
import type { UserDatabase } from '../users/user-database.ts';
import { type EntryInfoInit, readEntry } from './entry-info.ts';
import { makeDirectories } from './make-directories.ts';
import { resolvePath } from './resolve-path.ts';
import { type DirectoryWatcher, watchDirectory } from './watch-directory.ts';

export interface FilesystemServiceDeps {
  users: UserDatabase;
  settings: SandboxSettings;
  /** Watchers of clients that poll, by id. */
  watchers: Map<string, DirectoryWatcher>;
}

const maxPolledWatchers = 256;

/** The `filesystem.Filesystem` service (reference e2b-wire 2.3). */
export function createFilesystemService({
  users,
  settings,
  watchers,
}: FilesystemServiceDeps): ServiceImpl<typeof Filesystem> {
  const userOf = (context: HandlerContext) => callUser(context.requestHeader, users, settings);
  const pathOf = (path: string, context: HandlerContext) => resolvePath(path, userOf(context));
  const openWatcher = async (
    request: Pick<WatchDirRequest, 'path' | 'recursive' | 'includeEntry' | 'allowNetworkMounts'>,
    context: HandlerContext,
  ) =>
    watchDirectory(
      {
        path: pathOf(request.path, context),
        isRecursive: request.recursive,
        includesEntry: request.includeEntry,
        allowsNetworkMounts: request.allowNetworkMounts,
      },
      users,
    );
  return {
    stat: unary(async (request, context) => ({ entry: await readEntry(pathOf(request.path, context), users) })),

    makeDir: unary(async (request, context) => {
      const user = userOf(context);
      const path = resolvePath(request.path, user);
      const present = await stat(path).catch(() => undefined);
      if (present) {
        const what = present.isDirectory() ? 'directory' : 'file';
        throw new AppError(
          present.isDirectory() ? 'already_exists' : 'invalid_request',
          `cannot create the directory ${JSON.stringify(path)}: a ${what} is there`,
        );
      }
      await makeDirectories(path, user);
      return { entry: await readEntry(path, users) };
    }),

    move: unary(async (request, context) => {
      const user = userOf(context);
      const source = resolvePath(request.source, user);
      const destination = resolvePath(request.destination, user);
      await lstat(source);
      await makeDirectories(dirname(destination), user);
      await rename(source, destination);
      return { entry: await readEntry(destination, users) };
    }),

    listDir: unary(async (request, context) => {
      const path = pathOf(request.path, context);
      const depth = request.depth || 1;
      if (depth > fileLimits.maxListDepth) {
        throw new AppError('invalid_request', `depth is at most ${fileLimits.maxListDepth}, not ${depth}`);
      }
      if (!(await stat(path)).isDirectory()) {
        throw new AppError('invalid_request', `cannot list ${JSON.stringify(path)}: it is not a directory`);
      }
      return { entries: await listEntries(path, depth, users) };
    }),

    remove: unary(async (request, context) => {
      const path = pathOf(request.path, context);
      if (path === '/') throw new AppError('invalid_request', 'cannot remove the root directory');
      await rm(path, { recursive: true, force: true });
      return {};
    }),

    watchDir: serverStream(async function* (request: WatchDirRequest, context: HandlerContext) {
      using watcher = await openWatcher(request, context);
      yield { event: { case: 'start' as const, value: {} } };
      for (;;) {
        const events = await watcher.next(context.signal, keepaliveMs(context.requestHeader));
        if (events.length === 0) yield { event: { case: 'keepalive' as const, value: {} } };
        for (const event of events) yield { event: { case: 'filesystem' as const, value: event } };
      }
    }),

    createWatcher: unary(async (request, context) => {
      if (watchers.size >= maxPolledWatchers) {
        throw new AppError('quota_exceeded', `there are ${watchers.size} watchers; remove some first`);
      }
      const watcherId = randomUUID();
      watchers.set(watcherId, await openWatcher(request, context));
      return { watcherId };
    }),

    getWatcherEvents: unary((request) => ({ events: findWatcher(watchers, request.watcherId).take() })),

    removeWatcher: unary((request) => {
      findWatcher(watchers, request.watcherId)[Symbol.dispose]();
      watchers.delete(request.watcherId);
      return {};
    }),
  };
}

function findWatcher(watchers: Map<string, DirectoryWatcher>, id: string): DirectoryWatcher {
  const found = watchers.get(id);
  if (!found) throw new AppError('not_found', `there is no watcher ${JSON.stringify(id)}; create one`);
  return found;
}

/** Entries below `root`, parents before children, names in order. Throws `payload_too_large` beyond the limit. */
async function listEntries(root: string, depth: number, users: UserDatabase): Promise<EntryInfoInit[]> {
  const found: EntryInfoInit[] = [];
  const walk = async (directory: string, levels: number): Promise<void> => {
    const names = (await readdir(directory, { withFileTypes: true })).sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const entry of names) {
      if (found.length >= fileLimits.maxListEntries) {
        throw new AppError(
          'payload_too_large',
          `${JSON.stringify(root)} has more than ${fileLimits.maxListEntries} entries; list a part of it`,
        );
      }
      const path = join(directory, entry.name);
      const info = await readEntry(path, users).catch(ignoreGone);
      if (!info) continue;
      found.push(info);
      if (entry.isDirectory() && levels > 1) await walk(path, levels - 1);
    }
  };
  await walk(root, depth);
  return found;
}

/** An entry may go away while its directory is read. */
function ignoreGone(error: unknown): undefined {
  if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
}
