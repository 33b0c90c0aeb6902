import { AppError, asId, execLimits, fileLimits, type SandboxId } from '@aviary/core';
import type { ExecRequest, HostAgent } from '@aviary/proto/hostagent';
import { hostDiskFull } from '@aviary/service-kit';
import type { ServiceImpl } from '@connectrpc/connect';
import { type ExecOptions, execBuffered, execStream } from '../guest/exec.ts';
import { fileEntryFromGuest } from '../guest/file-entry.ts';
import { fromGuestError } from '../guest/guest-errors.ts';
import type { SandboxContext } from '../sandboxes/sandbox-context.ts';
import type { ActivityKind } from '../sandboxes/sandbox-record.ts';
import type { RunningParts, Sandbox } from '../sandboxes/sandbox-registry.ts';

type Routes = Pick<
  ServiceImpl<typeof HostAgent>,
  'exec' | 'execStream' | 'writeFile' | 'readFile' | 'listDir' | 'makeDir' | 'removePath'
>;

/** Work inside running guests. */
export function guestRoutes({ registry }: SandboxContext): Routes {
  const idOf = (text: string): SandboxId => asId('sandbox', text);

  /** Counts as activity, and keeps the sandbox awake while it lasts. */
  async function inGuest<T>(
    sandboxId: string,
    kind: ActivityKind,
    work: (running: RunningParts, sandbox: Sandbox) => Promise<T>,
  ): Promise<T> {
    const sandbox = registry.getRunning(idOf(sandboxId));
    if (sandbox.running.vm.isOutOfSpace) throw waitsForSpace();
    registry.touch(sandbox, kind);
    sandbox.openStreams++;
    try {
      return await work(sandbox.running, sandbox);
    } catch (error) {
      throw sandbox.running.vm.isOutOfSpace ? waitsForSpace(error) : error;
    } finally {
      sandbox.openStreams--;
      registry.touch(sandbox, kind);
    }
  }

  /** The same for work that yields as it goes. */
  async function* streamFromGuest<T>(
    sandboxId: string,
    kind: ActivityKind,
    open: (sandbox: Sandbox & { running: RunningParts }) => AsyncIterable<T>,
  ): AsyncGenerator<T> {
    const sandbox = registry.getRunning(idOf(sandboxId));
    if (sandbox.running.vm.isOutOfSpace) throw waitsForSpace();
    sandbox.openStreams++;
    try {
      for await (const item of open(sandbox)) {
        registry.touch(sandbox, kind);
        yield item;
      }
    } catch (error) {
      throw sandbox.running.vm.isOutOfSpace ? waitsForSpace(error) : error;
    } finally {
      sandbox.openStreams--;
      registry.touch(sandbox, kind);
    }
  }

  function filesystemCall<T>(
    request: { sandboxId: string; path: string; user: string },
    what: string,
    call: (running: RunningParts, headers: Record<string, string>) => Promise<T>,
  ): Promise<T> {
    checkPath(request.path);
    return inGuest(request.sandboxId, 'files', async (running, sandbox) => {
      const user = request.user || sandbox.record.defaultUser;
      try {
        return await call(running, { Authorization: `Basic ${Buffer.from(`${user}:`).toString('base64')}` });
      } catch (error) {
        throw fromGuestError(error, what, { field: 'path' });
      }
    });
  }

  return {
    exec(request) {
      return inGuest(request.sandboxId, 'exec', async ({ guest }, sandbox) => {
        const { stdout, stderr, exitCode, isTruncated, durationMs } = await execBuffered(
          guest,
          execOptions(request, sandbox),
        );
        return { stdout, stderr, exitCode, truncated: isTruncated, durationMs };
      });
    },
    async *execStream(request, { signal }) {
      const events = streamFromGuest(request.sandboxId, 'stream', (sandbox) =>
        execStream(sandbox.running.guest, execOptions(request, sandbox), signal),
      );
      for await (const event of events) {
        if (event.kind === 'start') yield { event: { case: 'start' as const, value: { pid: event.pid } } };
        else if (event.kind === 'end')
          yield { event: { case: 'end' as const, value: { exitCode: event.exitCode, error: event.error } } };
        else yield { event: { case: event.kind, value: event.data } };
      }
    },
    async writeFile(messages) {
      const iterator = messages[Symbol.asyncIterator]();
      const first = await iterator.next();
      if (first.done || first.value.content.case !== 'meta')
        throw new AppError('invalid_request', 'the first message must be `meta`');
      const { sandboxId, path, user } = first.value.content.value;
      checkPath(path);
      return inGuest(sandboxId, 'files', async ({ guest }, sandbox) => {
        const content = (async function* () {
          for (let next = await iterator.next(); !next.done; next = await iterator.next()) {
            if (next.value.content.case === 'chunk') yield next.value.content.value;
          }
        })();
        return { size: BigInt(await guest.writeFile({ path, user: user || sandbox.record.defaultUser, content })) };
      });
    },
    async *readFile(request, { signal }) {
      checkPath(request.path);
      yield* streamFromGuest(request.sandboxId, 'files', async function* ({ running, record }) {
        const user = request.user || record.defaultUser;
        for await (const chunk of await running.guest.readFile({ path: request.path, user, signal })) yield { chunk };
      });
    },
    listDir(request) {
      return filesystemCall(request, 'list the directory', async ({ guest }, headers) => {
        const depth = Math.min(Math.max(request.depth, 1), fileLimits.maxListDepth);
        const { entries } = await guest.filesystem.listDir(
          { path: request.path, depth },
          { headers, timeoutMs: 30_000 },
        );
        return { entries: entries.slice(0, fileLimits.maxListEntries).map(fileEntryFromGuest) };
      });
    },
    makeDir(request) {
      return filesystemCall(request, 'make the directory', async ({ guest }, headers) => {
        const { entry } = await guest.filesystem.makeDir({ path: request.path }, { headers, timeoutMs: 30_000 });
        return entry ? { entry: fileEntryFromGuest(entry) } : {};
      });
    },
    removePath(request) {
      return filesystemCall(request, 'remove the path', async ({ guest }, headers) => {
        await guest.filesystem.remove({ path: request.path }, { headers, timeoutMs: 60_000 });
        return {};
      });
    },
  };
}

/** A guest whose vCPUs stand still until the host has space answers nothing: the disk is to blame, not the guest. */
function waitsForSpace(cause?: unknown): AppError {
  return hostDiskFull('reach the guest, which waits for space', cause);
}

function execOptions(request: ExecRequest, sandbox: Sandbox): ExecOptions {
  if (request.cmd === '') throw new AppError('invalid_request', 'cmd must not be empty', { details: { field: 'cmd' } });
  if (request.stdin.byteLength > execLimits.maxStdinBytes) {
    throw new AppError('payload_too_large', `stdin may have ${execLimits.maxStdinBytes} bytes; write a file for more`, {
      details: { field: 'stdin' },
    });
  }
  return {
    cmd: request.cmd,
    args: request.args,
    envs: request.envs,
    ...(request.cwd === undefined ? {} : { cwd: request.cwd }),
    user: request.user || sandbox.record.defaultUser,
    timeoutSec: request.timeoutSec,
    stdin: request.stdin,
  };
}

function checkPath(path: string): void {
  if (path === '' || path.includes('\0') || Buffer.byteLength(path) > fileLimits.maxPathBytes) {
    throw new AppError('invalid_request', `path must have 1 to ${fileLimits.maxPathBytes} bytes and no NUL`, {
      details: { field: 'path' },
    });
  }
}
