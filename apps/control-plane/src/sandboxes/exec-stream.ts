import { ExecStart, routes } from '@aviary/api-contract';
import { AppError, parseId, type SandboxId, toAppError } from '@aviary/core';
import type { ExecStreamResponse } from '@aviary/proto/hostagent';
import type { FastifyInstance } from 'fastify';
import type { RawData, WebSocket } from 'ws';
import { fromConnectError } from '../hosts/from-connect-error.ts';
import type { HostClient } from '../hosts/host-clients.ts';
import { type AuthDeps, readCall, routeOptions } from '../http/register-route.ts';
import { compileValidator } from '../http/validator.ts';
import { agentCommand, commandDeadlineMs } from './exec.ts';
import { type DataDeps, openRunning } from './running-sandbox.ts';

/** A client that has connected must say what to run within this time. */
const startTimeoutMs = 10_000;
const isStart = compileValidator(ExecStart, 'body');

/** Runs a command over a WebSocket. The key and the sandbox are checked before the upgrade; disconnecting ends the command. */
export function registerExecStreamRoute(app: FastifyInstance, deps: DataDeps & AuthDeps): void {
  const opened = new WeakMap<object, { client: HostClient; id: SandboxId }>();
  app.get(
    routes.execStream.path.replace('{id}', ':id'),
    {
      ...routeOptions(deps, 'execStream'),
      websocket: true,
      preHandler: async (request, reply) => {
        const { caller, params } = readCall<'execStream'>(request, reply);
        const id = parseId('sandbox', params.id, 'id');
        const client = await openRunning(deps, { teamId: caller.teamId, id, verb: 'run a command in' });
        if (!request.ws) throw new AppError('invalid_request', 'this route is a WebSocket; connect with one');
        opened.set(request, { client, id });
      },
    },
    (socket, request) => {
      const session = opened.get(request);
      if (session)
        void serveExec(socket, session).catch((error: unknown) =>
          request.log.error({ err: error }, 'exec stream failed'),
        );
      else socket.close(1011);
    },
  );
}

async function serveExec(socket: WebSocket, { client, id }: { client: HostClient; id: SandboxId }): Promise<void> {
  const ended = new AbortController();
  const started = Promise.withResolvers<ExecStart>();
  const timer = setTimeout(
    () => started.reject(new AppError('deadline_exceeded', 'send a start frame within ten seconds')),
    startTimeoutMs,
  );
  socket.on('close', () => {
    ended.abort();
    started.reject(new AppError('cancelled', 'the client has gone'));
  });
  socket.on('error', () => socket.terminate());
  let hasStarted = false;
  socket.on('message', (data) => {
    const frame = readFrame(data);
    if (!hasStarted && isStart(frame)) {
      hasStarted = true;
      started.resolve(frame as ExecStart);
    } else if (hasStarted && typeof frame === 'object' && frame !== null && 'type' in frame && frame.type === 'stop') {
      ended.abort();
    } else {
      const problem = isStart.errors?.[0];
      const text = hasStarted
        ? 'a frame other than stop'
        : `${problem?.instancePath ?? ''} ${problem?.message ?? ''}`.trim();
      started.reject(new AppError('invalid_request', `cannot read the frame: ${text}`));
      if (hasStarted) ended.abort();
    }
  });
  try {
    const request = await started.promise;
    clearTimeout(timer);
    const options = { signal: ended.signal, timeoutMs: commandDeadlineMs(request) };
    for await (const { event } of client.execStream(agentCommand(id, request), options)) {
      const frame = toFrame(event);
      if (frame) await send(socket, frame);
    }
  } catch (error) {
    const { code, message, details } = toAppError(error instanceof AppError ? error : fromConnectError(error));
    await send(
      socket,
      ended.signal.aborted
        ? { type: 'error', code: 'cancelled', message: 'stopped' }
        : { type: 'error', code, message, details },
    );
  } finally {
    clearTimeout(timer);
    socket.close(1000);
  }
}

function toFrame(event: ExecStreamResponse['event']): object | undefined {
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

function readFrame(data: RawData): unknown {
  try {
    return JSON.parse(Array.isArray(data) ? Buffer.concat(data).toString() : Buffer.from(data as Buffer).toString());
  } catch {
    return undefined; // answered as a frame that cannot be read
  }
}

/** Resolves when the frame has left: a slow reader slows the command's output, never our memory. */
function send(socket: WebSocket, frame: object): Promise<void> {
  return new Promise((resolve) => {
    if (socket.readyState !== socket.OPEN) resolve();
    else socket.send(JSON.stringify(frame), () => resolve());
  });
}
