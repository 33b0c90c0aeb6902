import { constants } from 'node:os';
import type { CommandEvent_End, CommandEventSchema } from '@aviary/proto/guestagent';
import type { ExecRequest } from '@aviary/proto/hostagent';
import { Signal } from '@aviary/proto/process';
import type { MessageInitShape } from '@bufbuild/protobuf';

type CommandEvent = MessageInitShape<typeof CommandEventSchema>;
type End = Partial<Omit<CommandEvent_End, '$typeName' | '$unknown'>>;

/** What a command does in a fake sandbox. */
export interface FakeExecResult {
  stdout?: Uint8Array;
  stderr?: Uint8Array;
  exitCode?: number;
  /** The rest of how it ends. */
  end?: End;
  /** It runs until it is ended from outside: by a signal, or because its caller leaves. */
  isEndless?: boolean;
  /** It writes what it reads, and ends with its input. */
  isEcho?: boolean;
}

interface Running {
  isDetached: boolean;
  input: Buffer[];
  isInputOpen: boolean;
  /** Bytes that it reads are held until this resolves. */
  end: (end: End) => void;
  wake: () => void;
}

const firstPid = 42;

/** Commands of fake sandboxes, with the same rules on callers that leave as real ones. */
export class FakeCommands {
  readonly #running = new Map<number, Running>();
  /** Pids of commands that ended because their caller left. */
  readonly abandoned: number[] = [];
  /** Signals that were sent. */
  readonly signals: string[] = [];

  /** Pids of what runs now. */
  get pids(): number[] {
    return [...this.#running.keys()];
  }

  async *run(
    { detach, openStdin, stdin }: ExecRequest,
    { result, signal }: { result: FakeExecResult; signal: AbortSignal },
  ): AsyncGenerator<CommandEvent> {
    const pid = firstPid + this.#running.size;
    const { promise: ended, resolve } = Promise.withResolvers<End>();
    let hasEnded = false;
    const end = (how: End) => {
      hasEnded = true;
      resolve(how);
    };
    const input = stdin.byteLength > 0 ? [Buffer.from(stdin)] : [];
    const command: Running = { isDetached: detach, input, isInputOpen: openStdin, end, wake: () => undefined };
    this.#running.set(pid, command);
    const onLeave = () => {
      if (detach) return;
      this.abandoned.push(pid);
      end({ exitCode: 137, signal: 'SIGKILL' });
    };
    signal.addEventListener('abort', onLeave, { once: true });
    if (!result.isEndless && !result.isEcho) end({ exitCode: result.exitCode ?? 0, ...result.end });
    try {
      yield { event: { case: 'start', value: { pid } } };
      if (result.stdout) yield { event: { case: 'stdout', value: result.stdout } };
      if (result.stderr) yield { event: { case: 'stderr', value: result.stderr } };
      while (result.isEcho) {
        const next = command.input.shift();
        if (next) yield { event: { case: 'stdout', value: next } };
        else if (!command.isInputOpen || hasEnded) break;
        else
          await Promise.race([
            ended,
            new Promise<void>((wake) => {
              command.wake = wake;
            }),
          ]);
      }
      if (result.isEcho) end({ exitCode: 0 });
      const value = await ended;
      signal.throwIfAborted();
      yield { event: { case: 'end', value } };
      this.#running.delete(pid);
    } finally {
      signal.removeEventListener('abort', onLeave);
      if (!detach) this.#running.delete(pid);
    }
  }

  async runToEnd(request: ExecRequest, options: { result: FakeExecResult; signal: AbortSignal }) {
    const parts = { stdout: [] as Uint8Array[], stderr: [] as Uint8Array[] };
    let pid = 0;
    let end: End = {};
    for await (const { event } of this.run(request, options)) {
      if (event?.case === 'start') {
        pid = event.value.pid ?? 0;
        if (request.detach) return { pid, durationMs: 1 };
      }
      if (event?.case === 'stdout' || event?.case === 'stderr') parts[event.case].push(event.value);
      if (event?.case === 'end') end = event.value;
    }
    return { stdout: Buffer.concat(parts.stdout), stderr: Buffer.concat(parts.stderr), end, pid, durationMs: 1 };
  }

  /** False when the command takes no more. */
  write({ pid, data, eof }: { pid: number; data: Uint8Array; eof: boolean }): boolean {
    const command = this.#running.get(pid);
    if (!command?.isInputOpen) return false;
    if (data.byteLength > 0) command.input.push(Buffer.from(data));
    command.isInputOpen = !eof;
    command.wake();
    return !eof;
  }

  /** Ends a command, as any signal does. */
  signal(pid: number, signal: Signal): boolean {
    const name = `SIG${Signal[signal].replace(/^SIG/, '')}` as NodeJS.Signals;
    const command = this.#running.get(pid);
    if (!command) return false;
    this.signals.push(name);
    command.end({ exitCode: 128 + constants.signals[name], signal: name });
    this.#running.delete(pid);
    return true;
  }
}
