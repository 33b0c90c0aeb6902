import { isUtf8 } from 'node:buffer';
import { type Exec, type ExecResult, type ExecStart, execRoutes } from '@aviary/api-contract';
import { AppError, execLimits, formatId, parseId, type SandboxId, sandboxLimits, type TeamId } from '@aviary/core';
import type { CommandEvent_End } from '@aviary/proto/guestagent';
import type { FastifyInstance } from 'fastify';
import type { Answer } from '../http/answer.ts';
import { disconnectSignal } from '../http/disconnect-signal.ts';
import { runOnceByKey } from '../http/idempotent.ts';
import { type ApiDeps, registerRoutes } from '../http/register-routes.ts';
import { decodeBase64 } from './base64.ts';
import { checkEntryBytes } from './entry-bytes.ts';
import { type DataDeps, noteActivity, openRunning } from './running-sandbox.ts';

/** Time for the answer after the command's own limit. Longer than the host waits for a guest that hangs, so that its words arrive. */
const answerGraceMs = 45_000;

/** A command that took longer has used the sandbox until its end. */
const notedAgainAfterMs = 1_000;

/** What a command becomes for the host agent. Without `args`, `cmd` is a line for the shell. Throws `invalid_request` for too large an environment. */
export function agentCommand(sandboxId: SandboxId, request: Exec | ExecStart, timeoutSec: number) {
  const { cmd, args, envs = {}, cwd, user = '', detach = false } = request;
  checkEntryBytes('envs', envs, sandboxLimits.envBytes);
  return {
    sandboxId,
    ...(args ? { cmd, args } : { cmd: '/bin/sh', args: ['-c', cmd] }),
    envs,
    ...(cwd === undefined ? {} : { cwd }),
    user,
    timeoutSec,
    detach,
  };
}

/** How long to wait for the end of a command with this limit; 0 is the longest there is. */
export function commandDeadlineMs(timeoutSec: number): number {
  return (timeoutSec || execLimits.timeoutSec.max) * 1_000 + answerGraceMs;
}

/** How a command ended, as the API tells it. A guest is not trusted with the name. */
export function viewEnding({ exitCode, signal, timedOut }: CommandEvent_End) {
  return { exit_code: exitCode, signal: /^SIG[A-Z0-9]{1,12}$/.test(signal) ? signal : null, timed_out: timedOut };
}

/** Runs a command to its end, or starts a detached one. Output that is not UTF-8 is answered in base64, both streams alike. */
async function execInSandbox(
  deps: DataDeps,
  { teamId, id, request, signal }: { teamId: TeamId; id: SandboxId; request: Exec; signal?: AbortSignal },
): Promise<Answer<(typeof execRoutes)['exec']>> {
  const stdin = readStdin(request);
  const timeoutSec = request.timeout_sec ?? (request.detach ? 0 : execLimits.timeoutSec.default);
  const client = await openRunning(deps, { teamId, id, action: 'exec', activity: 'exec' });
  const { stdout, stderr, end, pid, durationMs } = await client.exec(
    { ...agentCommand(id, request, timeoutSec), stdin },
    { timeoutMs: commandDeadlineMs(timeoutSec), ...(signal ? { signal } : {}) },
  );
  if (durationMs > notedAgainAfterMs) await noteActivity(deps, id, 'exec');
  const command = { sandbox_id: formatId('sandbox', id), cmd: request.cmd };
  if (!end) return { status: 202, body: { ...command, pid } };
  const encoding = isUtf8(stdout) && isUtf8(stderr) ? 'utf-8' : 'base64';
  const encode = (bytes: Uint8Array) => Buffer.from(bytes).toString(encoding === 'utf-8' ? 'utf8' : 'base64');
  const dropped = { stdout: Number(end.droppedStdoutBytes), stderr: Number(end.droppedStderrBytes) };
  const body = {
    ...command,
    stdout: encode(stdout),
    stderr: encode(stderr),
    ...viewEnding(end),
    duration_ms: durationMs,
    encoding,
    truncated: dropped.stdout + dropped.stderr > 0,
    dropped_stdout_bytes: dropped.stdout,
    dropped_stderr_bytes: dropped.stderr,
  } satisfies ExecResult;
  return { status: 200, body };
}

function readStdin({ stdin = '', stdin_encoding = 'utf-8' }: Exec): Buffer {
  const bytes = stdin_encoding === 'base64' ? decodeBase64('stdin', stdin) : Buffer.from(stdin);
  if (bytes.byteLength <= execLimits.maxStdinBytes) return bytes;
  throw new AppError(
    'payload_too_large',
    `stdin may have ${execLimits.maxStdinBytes} bytes; use the stream, or write a file, for more`,
    { details: { field: 'stdin' } },
  );
}

export function registerExecRoute(app: FastifyInstance, deps: DataDeps & ApiDeps): void {
  registerRoutes(app, deps, {
    table: execRoutes,
    handlers: {
      exec: (call) => {
        const { caller, params, body, request, reply } = call;
        const id = parseId('sandbox', params.id, 'id');
        // A client that gives a key may come back for the answer, so the command goes on without it.
        const isAskedAgain = request.headers['idempotency-key'] !== undefined;
        const options = isAskedAgain ? {} : { signal: disconnectSignal(reply) };
        return runOnceByKey(deps, call, () =>
          execInSandbox(deps, { teamId: caller.teamId, id, request: body, ...options }),
        );
      },
    },
  });
}
