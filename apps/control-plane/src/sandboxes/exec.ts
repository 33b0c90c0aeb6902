import { isUtf8 } from 'node:buffer';
import { type Exec, type ExecResult, type ExecStart, execRoutes } from '@aviary/api-contract';
import { execLimits, formatId, parseId, type SandboxId, type TeamId } from '@aviary/core';
import type { FastifyInstance } from 'fastify';
import { fromConnectError } from '../hosts/from-connect-error.ts';
import { runOnceByKey } from '../http/idempotent.ts';
import { type ApiDeps, registerRoutes } from '../http/register-routes.ts';
import { type DataDeps, openRunning } from './running-sandbox.ts';

/** Time for the answer after the command's own limit. */
const answerGraceMs = 15_000;

/** What a command becomes for the host agent. Without `args`, `cmd` is a line for the shell. */
export function agentCommand(sandboxId: SandboxId, request: Exec | ExecStart) {
  const { cmd, args, envs = {}, cwd, user = '', timeout_sec = execLimits.timeoutSec.default } = request;
  return {
    sandboxId,
    ...(args ? { cmd, args } : { cmd: '/bin/sh', args: ['-c', cmd] }),
    envs,
    ...(cwd === undefined ? {} : { cwd }),
    user,
    timeoutSec: timeout_sec,
  };
}

/** How long to wait for a command's end: its limit, or the longest one there is. */
export function commandDeadlineMs(request: Exec | ExecStart): number {
  const limitSec = request.timeout_sec ?? execLimits.timeoutSec.default;
  return (limitSec === 0 ? execLimits.timeoutSec.max : limitSec) * 1000 + answerGraceMs;
}

/** Runs a command to its end. Output that is not UTF-8 is answered in base64, both streams alike. */
export async function execInSandbox(
  deps: DataDeps,
  { teamId, id, request }: { teamId: TeamId; id: SandboxId; request: Exec },
): Promise<ExecResult> {
  const client = await openRunning(deps, { teamId, id, action: 'exec' });
  try {
    const result = await client.exec(
      { ...agentCommand(id, request), stdin: Buffer.from(request.stdin ?? '') },
      { timeoutMs: commandDeadlineMs(request) },
    );
    const encoding = isUtf8(result.stdout) && isUtf8(result.stderr) ? 'utf-8' : 'base64';
    const encode = (bytes: Uint8Array) => Buffer.from(bytes).toString(encoding === 'utf-8' ? 'utf8' : 'base64');
    return {
      sandbox_id: formatId('sandbox', id),
      cmd: request.cmd,
      stdout: encode(result.stdout),
      stderr: encode(result.stderr),
      exit_code: result.exitCode,
      duration_ms: result.durationMs,
      encoding,
      truncated: result.truncated,
    };
  } catch (error) {
    throw fromConnectError(error);
  }
}

export function registerExecRoute(app: FastifyInstance, deps: DataDeps & ApiDeps): void {
  registerRoutes(app, deps, {
    table: execRoutes,
    handlers: {
      exec: (call) => {
        const { caller, params, body } = call;
        const id = parseId('sandbox', params.id, 'id');
        return runOnceByKey(deps, call, () => execInSandbox(deps, { teamId: caller.teamId, id, request: body }));
      },
    },
  });
}
