import { AppError } from '@aviary/core';
import type { CommandEventSchema, Commands, RunRequest } from '@aviary/proto/guestagent';
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { HandlerContext, ServiceImpl } from '@connectrpc/connect';
import { serverStream } from '../rpc/connect-error.ts';
import { shellExitCode } from './exit-status.ts';
import type { GuestProcess } from './guest-process.ts';
import { prepareLaunch } from './prepare-launch.ts';
import { processLimits } from './process-limits.ts';
import type { ProcessServiceDeps } from './process-service.ts';

type CommandEvent = MessageInitShape<typeof CommandEventSchema>;

/** The `guestagent.v1.Commands` service: commands that belong to the client that runs them. */
export function createCommandService(deps: ProcessServiceDeps): ServiceImpl<typeof Commands> {
  return {
    run: serverStream(async function* (request: RunRequest, { signal }: HandlerContext) {
      let started: GuestProcess;
      try {
        started = await startCommand(request, deps);
      } catch (error) {
        yield* notStarted(error);
        return;
      }
      // The call may stand at a `yield` that nobody takes any more, so leaving is not found out by reading on.
      const onLeave = () => {
        if (!started.hasEnded) started.killTree();
      };
      if (!request.detach) signal.addEventListener('abort', onLeave, { once: true });
      try {
        if (signal.aborted && !request.detach) onLeave();
        yield { event: { case: 'start', value: { pid: started.pid } } };
        yield* follow(started, signal);
        deps.registry.noteEndRead(started);
      } finally {
        signal.removeEventListener('abort', onLeave);
        if (!request.detach) onLeave();
      }
    }),
  };
}

function startCommand(request: RunRequest, { registry, users, settings }: ProcessServiceDeps): Promise<GuestProcess> {
  const user = users.user(request.user || settings.defaultUser);
  const { launch, ...description } = prepareLaunch(request, user, settings);
  return registry.start({
    launch,
    description: { ...description, tag: undefined },
    hasStdin: request.stdin,
    terminal: undefined,
    timeoutMs: request.timeoutMs > 0 ? request.timeoutMs : undefined,
    // A detached command waits for no reader.
    isOwned: !request.detach,
    maxOutputBytes: request.maxOutputBytes > 0n ? Number(request.maxOutputBytes) : undefined,
  });
}

async function* follow(started: GuestProcess, signal: AbortSignal): AsyncGenerator<CommandEvent> {
  for await (const update of started.read(signal, processLimits.commandKeepaliveMs)) {
    switch (update.kind) {
      case 'output': {
        const { stream, bytes } = update.chunk;
        yield { event: { case: stream === 'stderr' ? 'stderr' : 'stdout', value: bytes } };
        break;
      }
      case 'idle':
        yield { event: { case: 'keepalive', value: {} } };
        break;
      case 'end':
        yield {
          event: {
            case: 'end',
            value: {
              exitCode: shellExitCode(update.status),
              signal: update.status.signal ?? '',
              timedOut: update.timedOutMs !== undefined,
              droppedStdoutBytes: BigInt(started.droppedBytes('stdout')),
              droppedStderrBytes: BigInt(started.droppedBytes('stderr')),
            },
          },
        };
    }
  }
}

/** As a shell ends that cannot start a program: the words on standard error, and 127 or 126. */
function* notStarted(error: unknown): Generator<CommandEvent> {
  const isProgram = error instanceof AppError && error.details['command'] !== undefined;
  if (!isProgram) throw error;
  yield { event: { case: 'stderr', value: Buffer.from(`${error.message}\n`) } };
  yield { event: { case: 'end', value: { exitCode: error.code === 'not_found' ? 127 : 126 } } };
}
