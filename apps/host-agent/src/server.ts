import http2 from 'node:http2';
import { AppError, asId, errorText, execLimits, fileLimits, type SandboxId } from '@aviary/core';
import { HostAgent } from '@aviary/proto/hostagent';
import type { Logger } from '@aviary/service-kit';
import { type ConnectRouter, type Interceptor, type ServiceImpl } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import { fileEntryFromGuest } from './guest/file-entry.ts';
import { execBuffered, execStream, type ExecOptions } from './guest/exec.ts';
import { fromGuestError } from './guest/guest-errors.ts';
import { toConnectError } from './rpc-errors.ts';
import { createSandbox } from './sandboxes/create-sandbox.ts';
import { destroySandbox } from './sandboxes/destroy-sandbox.ts';
import type { SandboxContext } from './sandboxes/sandbox-context.ts';
import { toSandboxInfo } from './sandboxes/sandbox-info.ts';
import type { ActivityKind } from './sandboxes/sandbox-record.ts';
import type { RunningParts, Sandbox } from './sandboxes/sandbox-registry.ts';

/** Checks that a call comes from this host's control plane, now. Throws `unauthorized` or `stale_epoch`. */
export type CallerCheck = (headers: Headers) => Promise<void>;

export interface ServerDeps {
  context: SandboxContext;
  checkCaller: CallerCheck;
  logger: Logger;
}

/** The RPC server of `hostagent.v1`, HTTP/2 without TLS: listen on loopback only. */
export function createServer({ context, checkCaller, logger }: ServerDeps): http2.Http2Server {
  const authenticate: Interceptor = (next) => async (request) => {
    await checkCaller(request.header);
    return next(request);
  };
  const translateErrors: Interceptor = (next) => async (request) => {
    try {
      const response = await next(request);
      if (!response.stream) return response;
      return { ...response, message: translateStream(response.message) };
    } catch (error) {
      logIfInternal(logger, request.method.name, error);
      throw toConnectError(error);
    }
  };
  const handler = connectNodeAdapter({
    routes: (router: ConnectRouter) => router.service(HostAgent, hostAgentService(context)),
    interceptors: [translateErrors, authenticate],
    readMaxBytes: 16 * 1024 * 1024,
    // A client that leaves cancels nothing that it started: handlers of commands do not look at the request's signal.
  });
  return http2.createServer({ maxSessionMemory: 64 }, handler);
}

async function* translateStream<T>(messages: AsyncIterable<T>): AsyncIterable<T> {
  try {
    yield* messages;
  } catch (error) {
    throw toConnectError(error);
  }
}

function logIfInternal(logger: Logger, method: string, error: unknown): void {
  const level = error instanceof AppError && error.code !== 'internal' ? 'info' : 'error';
  logger[level]({ method, error: errorText(error), ...(level === 'error' && error instanceof Error ? { stack: error.stack } : {}) }, 'call failed');
}

/** Routes parse, call, and map; the work is in the folders beside this file. */
function hostAgentService(context: SandboxContext): ServiceImpl<typeof HostAgent> {
  const { registry } = context;
  const idOf = (text: string): SandboxId => asId('sandbox', text);

  /** Work inside a running guest: counts as activity, and keeps the sandbox awake while it lasts. */
  async function inGuest<T>(sandboxId: string, kind: ActivityKind, work: (running: RunningParts, sandbox: Sandbox) => Promise<T>): Promise<T> {
    const sandbox = registry.getRunning(idOf(sandboxId));
    registry.touch(sandbox, kind);
    sandbox.openStreams++;
    try {
      return await work(sandbox.running, sandbox);
    } finally {
      sandbox.openStreams--;
      registry.touch(sandbox, kind);
    }
  }

  return {
    async createSandbox(request) {
      const sandbox = await createSandbox(context, {
        operationId: request.operationId,
        sandboxId: idOf(request.sandboxId),
        teamId: asId('team', request.teamId),
        template: {
          teamId: asId('team', request.template?.teamId ?? ''),
          templateId: asId('template', request.template?.templateId ?? ''),
        },
        vcpus: request.vcpus,
        memoryMib: request.memoryMib,
        diskMib: request.diskMib,
        timeoutSec: request.timeoutSec,
        defaultUser: request.defaultUser,
        envs: request.envs,
      });
      return { sandbox: toSandboxInfo(sandbox) };
    },
    async destroySandbox(request) {
      await destroySandbox(context, { sandboxId: idOf(request.sandboxId), operationId: request.operationId });
      return {};
    },
    listSandboxes() {
      return { sandboxes: registry.list().map(toSandboxInfo) };
    },
    pingSandbox(request) {
      const sandbox = registry.getRunning(idOf(request.sandboxId));
      registry.touch(sandbox, 'ping');
      return { sandbox: toSandboxInfo(sandbox) };
    },
    exec(request) {
      return inGuest(request.sandboxId, 'exec', async ({ guest }, sandbox) => {
        const result = await execBuffered(guest, execOptions(request, sandbox));
        return {
          stdout: result.stdout,
          stderr: result.stderr,
          exitCode: result.exitCode,
          truncated: result.isTruncated,
          durationMs: result.durationMs,
        };
      });
    },
    async *execStream(request, { signal }) {
      const sandbox = registry.getRunning(idOf(request.sandboxId));
      sandbox.openStreams++;
      try {
        for await (const event of execStream(sandbox.running.guest, execOptions(request, sandbox), signal)) {
          registry.touch(sandbox, 'stream');
          if (event.kind === 'start') yield { event: { case: 'start' as const, value: { pid: event.pid } } };
          else if (event.kind === 'end') yield { event: { case: 'end' as const, value: { exitCode: event.exitCode, error: event.error } } };
          else yield { event: { case: event.kind, value: event.data } };
        }
      } finally {
        sandbox.openStreams--;
      }
    },
    async writeFile(messages) {
      const iterator = messages[Symbol.asyncIterator]();
      const first = await iterator.next();
      if (first.done || first.value.content.case !== 'meta') throw new AppError('invalid_request', 'the first message must be `meta`');
      const { sandboxId, path, user } = first.value.content.value;
      checkPath(path);
      return inGuest(sandboxId, 'files', async ({ guest }, sandbox) => {
        const content = (async function* () {
          for (let next = await iterator.next(); !next.done; next = await iterator.next()) {
            if (next.value.content.case === 'chunk') yield next.value.content.value;
          }
        })();
        const size = await guest.writeFile({ path, user: user || sandbox.record.defaultUser, content });
        return { size: BigInt(size) };
      });
    },
    async *readFile(request, { signal }) {
      checkPath(request.path);
      const sandbox = registry.getRunning(idOf(request.sandboxId));
      sandbox.openStreams++;
      try {
        const user = request.user || sandbox.record.defaultUser;
        for await (const chunk of await sandbox.running.guest.readFile({ path: request.path, user, signal })) {
          registry.touch(sandbox, 'files');
          yield { chunk };
        }
      } finally {
        sandbox.openStreams--;
      }
    },
    listDir(request) {
      return filesystemCall(request, 'list the directory', async ({ guest }, headers) => {
        const depth = Math.min(Math.max(request.depth, 1), fileLimits.maxListDepth);
        const { entries } = await guest.filesystem.listDir({ path: request.path, depth }, { headers, timeoutMs: 30_000 });
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
  } as ServiceImpl<typeof HostAgent>;

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
        throw fromGuestError(error, what);
      }
    });
  }
}

function execOptions(
  request: { cmd: string; args: string[]; envs: Record<string, string>; cwd?: string; user: string; timeoutSec: number; stdin: Uint8Array },
  sandbox: Sandbox,
): ExecOptions {
  if (request.cmd === '') throw new AppError('invalid_request', 'cmd must not be empty', { details: { field: 'cmd' } });
  if (request.stdin.byteLength > execLimits.maxStdinBytes) {
    throw new AppError('payload_too_large', `stdin may have ${execLimits.maxStdinBytes} bytes; write a file for more`, { details: { field: 'stdin' } });
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
    throw new AppError('invalid_request', `path must have 1 to ${fileLimits.maxPathBytes} bytes and no NUL`, { details: { field: 'path' } });
  }
}
