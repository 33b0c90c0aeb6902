import { AppError, asId, fileLimits } from '@aviary/core';
import type { HostAgent } from '@aviary/proto/hostagent';
import type { HandlerContext, ServiceImpl } from '@connectrpc/connect';
import { fileEntryFromGuest } from '../guest/file-entry.ts';
import { fromGuestError } from '../guest/guest-errors.ts';
import type { RunningParts, Sandbox, SandboxRegistry } from '../registry/sandbox-registry.ts';
import { GuestUse } from '../sandboxes/guest-use.ts';

type Routes = Pick<ServiceImpl<typeof HostAgent>, 'writeFile' | 'readFile' | 'listDir' | 'makeDir' | 'removePath'>;

/** The guest's own answer takes as long as its file system; these only bound one that never comes. */
const callTimeoutMs = 30_000;
const removeTimeoutMs = 60_000;

/** The files of running guests. What a call does in the guest ends with the call. */
export function fileRoutes({ registry }: { registry: SandboxRegistry }): Routes {
  function begin(sandboxId: string, signal: AbortSignal) {
    const sandbox = registry.getAnswering(asId('sandbox', sandboxId));
    return { sandbox, use: new GuestUse(registry, sandbox, { kind: 'files', signal }) };
  }

  async function filesystemCall<T>(
    request: { sandboxId: string; path: string; user: string },
    what: string,
    {
      context: { signal },
      call,
      timeoutMs = callTimeoutMs,
    }: {
      context: HandlerContext;
      call: (
        filesystem: RunningParts['guest']['filesystem'],
        options: { headers: Record<string, string>; signal: AbortSignal; timeoutMs: number },
      ) => Promise<T>;
      timeoutMs?: number;
    },
  ): Promise<T> {
    checkPath(request.path);
    const { sandbox, use } = begin(request.sandboxId, signal);
    try {
      const headers = { Authorization: `Basic ${Buffer.from(`${userOf(request, sandbox)}:`).toString('base64')}` };
      return await call(sandbox.running.guest.filesystem, { headers, signal, timeoutMs });
    } catch (error) {
      throw fromGuestError(error, what, { field: 'path' });
    } finally {
      use[Symbol.dispose]();
    }
  }

  return {
    async writeFile(messages, { signal }) {
      const iterator = messages[Symbol.asyncIterator]();
      const first = await iterator.next();
      if (first.done || first.value.content.case !== 'meta')
        throw new AppError('invalid_request', 'the first message must be `meta`');
      const meta = first.value.content.value;
      checkPath(meta.path);
      const { sandbox, use } = begin(meta.sandboxId, signal);
      try {
        const content = (async function* () {
          for (let next = await iterator.next(); !next.done; next = await iterator.next()) {
            if (next.value.content.case === 'end') return;
            if (next.value.content.case !== 'chunk') continue;
            use.moved();
            yield next.value.content.value;
          }
          throw new AppError('cancelled', 'the upload broke off before its end; the file stays as it was');
        })();
        const { guest } = sandbox.running;
        const size = await guest.writeFile({ path: meta.path, user: userOf(meta, sandbox), content, signal });
        return { size: BigInt(size) };
      } finally {
        use[Symbol.dispose]();
      }
    },

    async *readFile(request, { signal }) {
      checkPath(request.path);
      const { sandbox, use } = begin(request.sandboxId, signal);
      try {
        const file = { path: request.path, user: userOf(request, sandbox), signal };
        for await (const chunk of await sandbox.running.guest.readFile(file)) {
          use.moved();
          yield { chunk };
        }
      } catch (error) {
        throw fromGuestError(error, 'read the file', { field: 'path' });
      } finally {
        use[Symbol.dispose]();
      }
    },

    listDir(request, context) {
      return filesystemCall(request, 'list the directory', {
        context,
        call: async (filesystem, options) => {
          const { path, cursor } = request;
          const depth = Math.min(Math.max(request.depth, 1), fileLimits.maxListDepth);
          const pageSize = Math.min(request.pageSize || fileLimits.maxListEntries, fileLimits.maxListEntries);
          const { entries, nextCursor } = await filesystem.listDir({ path, depth, pageSize, cursor }, options);
          return {
            entries: entries.slice(0, fileLimits.maxListEntries).map(fileEntryFromGuest),
            nextCursor: nextCursor.slice(0, fileLimits.maxListCursorBytes),
          };
        },
      });
    },

    makeDir(request, context) {
      return filesystemCall(request, 'make the directory', {
        context,
        call: async (filesystem, options) => {
          const { entry } = await filesystem.makeDir({ path: request.path }, options);
          return entry ? { entry: fileEntryFromGuest(entry) } : {};
        },
      });
    },

    removePath(request, context) {
      return filesystemCall(request, 'remove the path', {
        context,
        timeoutMs: removeTimeoutMs,
        call: async (filesystem, options) => {
          await filesystem.remove({ path: request.path }, options);
          return {};
        },
      });
    },
  };
}

function userOf({ user }: { user: string }, { record }: Sandbox): string {
  return user || record.defaultUser;
}

function checkPath(path: string): void {
  if (path === '' || path.includes('\0') || Buffer.byteLength(path) > fileLimits.maxPathBytes) {
    throw new AppError('invalid_request', `path must have 1 to ${fileLimits.maxPathBytes} bytes and no NUL`, {
      details: { field: 'path' },
    });
  }
}
