import { randomUUID } from 'node:crypto';
import { AppError, fileLimits } from '@aviary/core';
import type { Filesystem, WatchDirRequest } from '@aviary/proto/filesystem';
import type { HandlerContext, ServiceImpl } from '@connectrpc/connect';
import { serverStream, unary } from '../rpc/connect-error.ts';
import { callUser, keepaliveMs } from '../rpc/request-context.ts';
import type { SandboxSettings } from '../sandbox-settings.ts';
import type { UserDatabase } from '../users/user-database.ts';
import { describeEntry } from './describe-entry.ts';
import type { FileAccess } from './file-access.ts';
import { readListCursor, writeListCursor } from './list-cursor.ts';
import { resolvePath } from './resolve-path.ts';
import { type DirectoryWatcher, watchDirectory } from './watch-directory.ts';

export interface FilesystemServiceDeps {
  users: UserDatabase;
  files: FileAccess;
  settings: SandboxSettings;
  /** Watchers of clients that poll, by id. */
  watchers: Map<string, DirectoryWatcher>;
}

const maxPolledWatchers = 256;
const maxPageEntries = fileLimits.maxListEntries;
/** Well below what the host takes as one message. */
const maxPageBytes = 8 * 1024 * 1024;

/** The `filesystem.Filesystem` service (reference e2b-wire 2.3). Every call has the rights of the user it names. */
export function createFilesystemService({
  users,
  files,
  settings,
  watchers,
}: FilesystemServiceDeps): ServiceImpl<typeof Filesystem> {
  const callOf = ({ requestHeader, signal }: HandlerContext) => ({
    user: callUser(requestHeader, users, settings),
    signal,
  });
  const entryOf = async (path: string, call: ReturnType<typeof callOf>) =>
    describeEntry(await files.threads.run('readEntry', { ...call, input: { path } }), users.names());
  const openWatcher = async (
    request: Pick<WatchDirRequest, 'path' | 'recursive' | 'includeEntry' | 'allowNetworkMounts'>,
    context: HandlerContext,
  ) => {
    const { user } = callOf(context);
    const options = {
      path: resolvePath(request.path, user),
      user,
      isRecursive: request.recursive,
      includesEntry: request.includeEntry,
      allowsNetworkMounts: request.allowNetworkMounts,
    };
    return watchDirectory(options, { files, users });
  };
  // They wait while they are opened, and count by then.
  let openings = 0;
  return {
    stat: unary(async (request, context) => {
      const call = callOf(context);
      return { entry: await entryOf(resolvePath(request.path, call.user), call) };
    }),

    makeDir: unary(async (request, context) => {
      const call = callOf(context);
      const path = resolvePath(request.path, call.user);
      await files.threads.run('makeDirectory', { ...call, input: { path } });
      return { entry: await entryOf(path, call) };
    }),

    move: unary(async (request, context) => {
      const call = callOf(context);
      const source = resolvePath(request.source, call.user);
      const destination = resolvePath(request.destination, call.user);
      await files.threads.run('movePath', { ...call, input: { source, destination } });
      return { entry: await entryOf(destination, call) };
    }),

    listDir: unary(async (request, context) => {
      const call = callOf(context);
      const path = resolvePath(request.path, call.user);
      const { isPaged, ...bounds } = listBounds(request);
      const after = request.cursor === '' ? {} : { after: readListCursor(request.cursor) };
      const input = { path, ...bounds, ...after };
      const { entries, next } = await files.threads.run('listDirectory', { ...call, input });
      if (next && !isPaged) {
        throw new AppError(
          'payload_too_large',
          `${JSON.stringify(path)} has more than ${bounds.limit} entries; list it in pages (\`page_size\`), or a part of it`,
        );
      }
      const names = users.names();
      return {
        entries: entries.map((entry) => describeEntry(entry, names)),
        nextCursor: next ? writeListCursor(next) : '',
      };
    }),

    remove: unary(async (request, context) => {
      const call = callOf(context);
      const path = resolvePath(request.path, call.user);
      if (path === '/') throw new AppError('invalid_request', 'cannot remove the root directory');
      await files.threads.run('removePath', { ...call, input: { path } });
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
      if (watchers.size + openings >= maxPolledWatchers) {
        throw new AppError('quota_exceeded', `there are ${maxPolledWatchers} watchers; remove some first`);
      }
      const watcherId = randomUUID();
      openings++;
      try {
        watchers.set(watcherId, await openWatcher(request, context));
      } finally {
        openings--;
      }
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

/** A client that does not ask for pages gets all at once, up to a bound. */
function listBounds({ depth, pageSize }: { depth: number; pageSize: number }) {
  if (depth > fileLimits.maxListDepth) {
    throw new AppError('invalid_request', `depth is at most ${fileLimits.maxListDepth}, not ${depth}`);
  }
  const isPaged = pageSize > 0;
  const limit = isPaged ? Math.min(pageSize, maxPageEntries) : maxPageEntries;
  return { depth: depth || 1, isPaged, limit, ...(isPaged ? { maxBytes: maxPageBytes } : {}) };
}
