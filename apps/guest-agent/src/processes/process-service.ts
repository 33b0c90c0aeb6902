import { AppError } from '@aviary/core';
import type { ConnectRequest, ProcessEventSchema, StartRequest } from '@aviary/proto/process';
import {
  type Process,
  type ProcessInput,
  type ProcessSelector as ProcessSelectorMessage,
  Signal,
} from '@aviary/proto/process';
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { HandlerContext, ServiceImpl } from '@connectrpc/connect';
import { serverStream, toConnectError, unary } from '../rpc/connect-error.ts';
import { callUser, keepaliveMs } from '../rpc/request-context.ts';
import type { SandboxSettings } from '../sandbox-settings.ts';
import type { UserDatabase } from '../users/user-database.ts';
import type { GuestProcess } from './guest-process.ts';
import { prepareLaunch } from './prepare-launch.ts';
import { processLimits } from './process-limits.ts';
import type { ProcessRegistry, ProcessSelector, ProcessStart } from './process-registry.ts';

export interface ProcessServiceDeps {
  registry: ProcessRegistry;
  users: UserDatabase;
  settings: SandboxSettings;
}

type EventInit = MessageInitShape<typeof ProcessEventSchema>;

/** The `process.Process` service (reference e2b-wire 2.3) over a registry. */
export function createProcessService(deps: ProcessServiceDeps): ServiceImpl<typeof Process> {
  const { registry } = deps;
  return {
    list: unary(() => ({
      processes: registry.list().map(({ pid, description: { command, args, envs, cwd, tag } }) => ({
        pid,
        config: { cmd: command, args: [...args], envs: { ...envs }, ...(cwd === undefined ? {} : { cwd }) },
        ...(tag === undefined ? {} : { tag }),
      })),
    })),

    start: serverStream(async function* (request: StartRequest, context: HandlerContext) {
      const started = await registry.start(parseStart(request, context, deps));
      yield* follow(started, context, registry);
    }),

    connect: serverStream(async function* (request: ConnectRequest, context: HandlerContext) {
      yield* follow(registry.find(parseSelector(request.process)), context, registry);
    }),

    update: unary((request) => {
      const target = registry.find(parseSelector(request.process));
      const size = request.pty?.size;
      if (size) target.running.resize({ cols: size.cols, rows: size.rows });
      return {};
    }),

    sendInput: unary(async (request, context) => {
      await sendInput(registry.find(parseSelector(request.process)), request.input, context.signal);
      return {};
    }),

    streamInput: async (requests, context) => {
      try {
        let target: GuestProcess | undefined;
        for await (const { event } of requests) {
          if (event.case === 'start') target = registry.find(parseSelector(event.value.process));
          else if (event.case === 'data') {
            if (!target) throw new AppError('invalid_request', 'the first message of an input stream must be `start`');
            await sendInput(target, event.value.input, context.signal);
          }
        }
        return {};
      } catch (error) {
        throw toConnectError(error);
      }
    },

    sendSignal: unary((request) => {
      const target = registry.find(parseSelector(request.process));
      const signal = signalNames[request.signal];
      if (!signal) throw new AppError('invalid_request', `signal ${request.signal} is not one that can be sent`);
      // SIGKILL leaves a process no chance to take its children along, so the tree goes unless the caller says otherwise.
      const isTree = request.tree ?? signal === 'SIGKILL';
      const isSent = isTree ? target.signalTree(signal) : target.signal(signal);
      if (!isSent) throw new AppError('not_found', `process ${target.pid} has ended already`);
      return {};
    }),

    closeStdin: unary((request) => {
      registry.find(parseSelector(request.process)).running.closeInput();
      return {};
    }),
  };
}

const signalNames: Partial<Record<Signal, NodeJS.Signals>> = {
  [Signal.SIGHUP]: 'SIGHUP',
  [Signal.SIGINT]: 'SIGINT',
  [Signal.SIGQUIT]: 'SIGQUIT',
  [Signal.SIGKILL]: 'SIGKILL',
  [Signal.SIGUSR1]: 'SIGUSR1',
  [Signal.SIGUSR2]: 'SIGUSR2',
  [Signal.SIGTERM]: 'SIGTERM',
  [Signal.SIGCONT]: 'SIGCONT',
  [Signal.SIGSTOP]: 'SIGSTOP',
};

/** The stream of a process: `start`, kept and new output, `end`; `keepalive` when nothing happens. */
async function* follow(
  target: GuestProcess,
  context: HandlerContext,
  registry: ProcessRegistry,
): AsyncGenerator<{ event: EventInit }> {
  yield { event: { event: { case: 'start', value: { pid: target.pid } } } };
  for await (const update of target.read(context.signal, keepaliveMs(context.requestHeader))) {
    switch (update.kind) {
      case 'output':
        yield {
          event: {
            event: { case: 'data', value: { output: { case: update.chunk.stream, value: update.chunk.bytes } } },
          },
        };
        break;
      case 'idle':
        yield { event: { event: { case: 'keepalive', value: {} } } };
        break;
      case 'end': {
        if (update.timedOutMs !== undefined) {
          registry.noteEndRead(target);
          throw new AppError(
            'deadline_exceeded',
            `the process did not end within ${update.timedOutMs} ms and was killed`,
          );
        }
        const { exitCode, isExited, text } = update.status;
        const error = exitCode === 0 ? {} : { error: text };
        yield { event: { event: { case: 'end', value: { exitCode, exited: isExited, status: text, ...error } } } };
        // Asked for more, so the connection has taken it: an end handed to a client that left is not read.
        if (!context.signal.aborted) registry.noteEndRead(target);
        return;
      }
    }
  }
}

function parseStart(
  request: StartRequest,
  context: HandlerContext,
  { users, settings }: ProcessServiceDeps,
): ProcessStart {
  const config = request.process;
  if (!config) throw new AppError('invalid_request', 'cannot start a process: `process` is missing');
  const user = callUser(context.requestHeader, users, settings);
  const { launch, ...description } = prepareLaunch(config, user, settings);
  const size = request.pty ? (request.pty.size ?? { cols: 80, rows: 24 }) : undefined;
  return {
    launch,
    description: { ...description, tag: request.tag },
    hasStdin: request.stdin ?? true,
    terminal: size && { cols: size.cols, rows: size.rows },
    timeoutMs: context.timeoutMs(),
  };
}

function parseSelector(message: ProcessSelectorMessage | undefined): ProcessSelector {
  switch (message?.selector.case) {
    case 'pid':
      return { by: 'pid', pid: message.selector.value };
    case 'tag':
      return { by: 'tag', tag: message.selector.value };
    default:
      throw new AppError('invalid_request', 'name the process by `pid` or `tag`');
  }
}

async function sendInput(target: GuestProcess, input: ProcessInput | undefined, signal: AbortSignal): Promise<void> {
  const kind = input?.input.case;
  if (!input || kind === undefined) throw new AppError('invalid_request', 'input must hold `stdin` or `pty` bytes');
  const { running } = target;
  if (target.hasEnded) throw new AppError('not_found', `process ${target.pid} has ended`);
  if ((kind === 'pty') !== running.hasTerminal) {
    const right = running.hasTerminal ? 'pty' : 'stdin';
    throw new AppError('invalid_request', `process ${target.pid} takes its input as \`${right}\``);
  }
  const bytes = input.input.value;
  if (running.pendingInputBytes + bytes.length > processLimits.maxPendingInputBytes) {
    throw new AppError('rate_limited', `process ${target.pid} does not read its input; send more when it does`);
  }
  await Promise.race([running.write(bytes), rejectOnAbort(signal)]);
}

function rejectOnAbort(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    if (signal.aborted) reject(signal.reason);
    else signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}
