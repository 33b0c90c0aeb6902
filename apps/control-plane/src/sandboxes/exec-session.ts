import type { ExecClientFrame, ExecStart, execStreamRoutes } from '@aviary/api-contract';
import { AppError, type ExecSignal, type SandboxId, toAppError } from '@aviary/core';
import { Signal } from '@aviary/proto/process';
import type { HostClient } from '../hosts/host-clients.ts';
import type { SocketOf } from '../http/frame-socket.ts';
import { agentCommand, commandDeadlineMs, viewEnding } from './exec.ts';
import { ExecInput, type StdinFrame } from './exec-input.ts';
import { OutputWindow } from './output-window.ts';

/** A client that has connected must say what to run within this time. */
const startTimeoutMs = 10_000;
/** A command that was killed is followed for this long to its end. */
const stopTimeoutMs = 15_000;
const policyViolation = 1008;

type ExecSocket = SocketOf<(typeof execStreamRoutes)['execStream']['frames']>;

export interface ExecSessionDeps {
  client: HostClient;
  id: SandboxId;
  /** The sandbox is used now. */
  onUse: () => Promise<void>;
}

/**
 * One command over a socket, from its `start` frame to its end. The command ends when the client leaves or sends `stop`; whatever else the
 * client sends, it goes on.
 */
export async function serveExec(socket: ExecSocket, { client, id, onUse }: ExecSessionDeps): Promise<void> {
  const session = new ExecSession(socket, client, id);
  try {
    const request = await session.started;
    await session.run(request);
  } catch (error) {
    const { code, message, details } = toAppError(error);
    await socket.send({ type: 'error', code, message, details, fatal: true });
  } finally {
    socket.close(session.hasStarted ? 1000 : policyViolation);
    await onUse();
  }
}

class ExecSession {
  readonly #socket: ExecSocket;
  readonly #client: HostClient;
  readonly #id: SandboxId;
  readonly #start = Promise.withResolvers<ExecStart>();
  /** Aborting it breaks the call off: the host ends the command then, unless it is detached. */
  readonly #call = new AbortController();
  #input: ExecInput | undefined;
  #output: OutputWindow | undefined;
  #pid: number | undefined;
  #isStopped = false;
  #stopTimer: NodeJS.Timeout | undefined;
  hasStarted = false;

  constructor(socket: ExecSocket, client: HostClient, id: SandboxId) {
    this.#socket = socket;
    this.#client = client;
    this.#id = id;
    const timer = setTimeout(
      () => this.#start.reject(new AppError('deadline_exceeded', 'send a start frame within ten seconds')),
      startTimeoutMs,
    );
    this.#start.promise.then(
      () => clearTimeout(timer),
      () => clearTimeout(timer),
    );
    socket.closed.addEventListener('abort', () => {
      this.#start.reject(new AppError('cancelled', 'the client has gone'));
      this.#call.abort();
    });
    socket.listen({
      onFrame: (frame) => this.#take(frame),
      onInvalid: (problem) => this.#refuse('invalid_request', `cannot read the frame: ${problem}`),
    });
  }

  /** What to run. Rejects when the client sends something else first, or nothing. */
  get started(): Promise<ExecStart> {
    return this.#start.promise;
  }

  async run(request: ExecStart): Promise<void> {
    const { timeout_sec: timeoutSec = 0 } = request;
    const options = { signal: this.#call.signal, timeoutMs: commandDeadlineMs(timeoutSec) };
    const command = { ...agentCommand(this.#id, request, timeoutSec), openStdin: request.stdin === true };
    this.#output = new OutputWindow(request.output_window, this.#call.signal);
    try {
      for await (const { event } of this.#client.execStream(command, options)) {
        switch (event.case) {
          case 'start':
            this.#pid = event.value.pid;
            await this.#socket.send({ type: 'start', pid: event.value.pid });
            if (this.#isStopped) this.#kill();
            this.#input?.begin(event.value.pid);
            break;
          case 'stdout':
          case 'stderr':
            await this.#output.enter();
            await this.#socket.send({ type: event.case, data: Buffer.from(event.value).toString('base64') });
            break;
          case 'end':
            await this.#socket.send({ type: 'exit', ...viewEnding(event.value), stopped: this.#isStopped });
            return;
        }
      }
      throw new AppError('host_unavailable', "the sandbox's host ended the stream before the command ended");
    } catch (error) {
      if (this.#isStopped) throw new AppError('cancelled', 'the command was stopped', { cause: error });
      throw error;
    } finally {
      clearTimeout(this.#stopTimer);
      this.#call.abort();
    }
  }

  #take(frame: ExecClientFrame): void {
    if (frame.type === 'ping') void this.#socket.send({ type: 'pong' });
    else if (frame.type === 'start') this.#begin(frame);
    else if (!this.hasStarted) this.#refuse('invalid_request', 'send a start frame first');
    else if (frame.type === 'stdin') this.#feed(frame);
    else if (frame.type === 'signal') this.#signal(frame.signal);
    else if (frame.type === 'output') this.#output?.onTaken(frame.taken_frames);
    else {
      this.#isStopped = true;
      this.#kill();
    }
  }

  #begin(request: ExecStart): void {
    if (this.hasStarted) {
      this.#refuse('invalid_state', 'a command runs on this socket; open another');
      return;
    }
    this.hasStarted = true;
    if (request.stdin) this.#input = this.#openInput();
    this.#start.resolve(request);
  }

  #feed(frame: StdinFrame): void {
    if (this.#input) this.#input.add(frame);
    else this.#refuse('invalid_state', 'standard input is at its end; ask for it with `stdin` in the start frame');
  }

  #openInput(): ExecInput {
    return new ExecInput(
      {
        write: (input) =>
          this.#client
            .execInput({ sandboxId: this.#id, ...input }, { signal: this.#call.signal })
            .then(({ open }) => open),
        onTaken: (taken) => void this.#socket.send({ type: 'stdin', ...taken }),
        onError: ({ code, message }) => this.#refuse(code, message),
      },
      this.#call.signal,
    );
  }

  /** Tells what is wrong with a frame. The command goes on; without one, the socket closes. */
  #refuse(code: AppError['code'], message: string): void {
    if (this.hasStarted) void this.#socket.send({ type: 'error', code, message, fatal: false });
    else this.#start.reject(new AppError(code, message));
  }

  #signal(name: ExecSignal): void {
    if (this.#pid === undefined) {
      this.#refuse('invalid_state', 'the command has not started yet');
      return;
    }
    // Outlives the call: a client that sends `stop` and leaves is done what it asked for.
    this.#client
      .execSignal({ sandboxId: this.#id, pid: this.#pid, signal: Signal[name] }, { timeoutMs: stopTimeoutMs })
      .catch((error: unknown) => {
        const { code, message } = toAppError(error);
        this.#refuse(code, message);
      });
  }

  /** Kills the command with all it started, and reads on to its end; breaks off when that does not come. */
  #kill(): void {
    // Before it has started there is nothing to kill; it is killed at its start.
    if (this.#pid === undefined) return;
    this.#stopTimer ??= setTimeout(() => this.#call.abort(), stopTimeoutMs);
    this.#signal('SIGKILL');
  }
}
