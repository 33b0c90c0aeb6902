import { type ExecServerFrame, type ExecStart, execStreamRoutes } from '@aviary/api-contract';
import { AppError, parseId, type SandboxId, toAppError } from '@aviary/core';
import type { ExecStreamResponse } from '@aviary/proto/hostagent';
import type { FastifyInstance } from 'fastify';
import { fromConnectError } from '../hosts/from-connect-error.ts';
import type { HostClient } from '../hosts/host-clients.ts';
import type { SocketOf } from '../http/frame-socket.ts';
import { type ApiDeps, registerRoutes } from '../http/register-routes.ts';
import { agentCommand, commandDeadlineMs } from './exec.ts';
import { type DataDeps, openRunning } from './running-sandbox.ts';

/** A client that has connected must say what to run within this time. */
const startTimeoutMs = 10_000;

type ExecSocket = SocketOf<(typeof execStreamRoutes)['execStream']['frames']>;

/** Runs a command over a WebSocket. The key and the sandbox are checked before the upgrade; disconnecting ends the command. */
export function registerExecStreamRoute(app: FastifyInstance, deps: DataDeps & ApiDeps): void {
  registerRoutes(app, deps, {
    table: execStreamRoutes,
    handlers: {
      execStream: async ({ caller, params }) => {
        const id = parseId('sandbox', params.id, 'id');
        const client = await openRunning(deps, { teamId: caller.teamId, id, action: 'exec' });
        return (socket) => serveExec(socket, { client, id });
      },
    },
  });
}

async function serveExec(socket: ExecSocket, { client, id }: { client: HostClient; id: SandboxId }): Promise<void> {
  const ended = new AbortController();
  const started = Promise.withResolvers<ExecStart>();
  const timer = setTimeout(
    () => started.reject(new AppError('deadline_exceeded', 'send a start frame within ten seconds')),
    startTimeoutMs,
  );
  socket.closed.addEventListener('abort', () => {
    ended.abort();
    started.reject(new AppError('cancelled', 'the client has gone'));
  });
  let hasStarted = false;
  const refuse = (problem: string) => {
    started.reject(new AppError('invalid_request', `cannot read the frame: ${problem}`));
    if (hasStarted) ended.abort();
  };
  socket.listen({
    onFrame: (frame) => {
      if (frame.type === 'stop') {
        if (hasStarted) ended.abort();
        else refuse('a start comes first');
      } else if (hasStarted) refuse('a second start');
      else {
        hasStarted = true;
        started.resolve(frame);
      }
    },
    onInvalid: refuse,
  });
  try {
    const request = await started.promise;
    clearTimeout(timer);
    const options = { signal: ended.signal, timeoutMs: commandDeadlineMs(request) };
    for await (const { event } of client.execStream(agentCommand(id, request), options)) {
      const frame = toFrame(event);
      if (frame) await socket.send(frame);
    }
  } catch (error) {
    const { code, message, details } = toAppError(error instanceof AppError ? error : fromConnectError(error));
    await socket.send(
      ended.signal.aborted
        ? { type: 'error', code: 'cancelled', message: 'stopped' }
        : { type: 'error', code, message, details },
    );
  } finally {
    clearTimeout(timer);
    socket.close();
  }
}

function toFrame(event: ExecStreamResponse['event']): ExecServerFrame | undefined {
  switch (event.case) {
    case 'start':
      return { type: 'start', pid: event.value.pid };
    case 'stdout':
    case 'stderr':
      return { type: event.case, data: Buffer.from(event.value).toString('base64') };
    case 'end': {
      const { exitCode, error } = event.value;
      return { type: 'exit', exit_code: exitCode, ...(error ? { error } : {}) };
    }
    default:
      return undefined;
  }
}
