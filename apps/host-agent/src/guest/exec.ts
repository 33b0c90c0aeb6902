import { AppError, execLimits } from '@aviary/core';
import type { CommandEvent_End } from '@aviary/proto/guestagent';
import type { Signal } from '@aviary/proto/process';
import type { GuestClient } from './guest-client.ts';
import { fromGuestError } from './guest-errors.ts';

export interface ExecOptions {
  cmd: string;
  args: readonly string[];
  envs: Record<string, string>;
  cwd?: string;
  /** A user of the guest. */
  user: string;
  /** 0 = no limit. At the limit the guest kills the process and all it started. */
  timeoutSec: number;
  /** Standard input stays open for {@link sendExecInput}; else it is at its end. */
  hasStdin?: boolean;
  /** The command goes on when its caller leaves. */
  isDetached?: boolean;
  /** Bytes of each output stream that the guest sends. Default: all. */
  maxOutputBytes?: number;
  /** How long a guest may take. */
  waits?: typeof defaultWaits;
}

/** What commands need of a guest. */
export type CommandGuest = Pick<GuestClient, 'attached' | 'commands' | 'processes'>;

export type ExecEvent =
  | { kind: 'start'; pid: number }
  | { kind: 'stdout' | 'stderr'; data: Uint8Array }
  | { kind: 'end'; end: CommandEvent_End };

const defaultWaits = {
  /** Until it says that a command has started. Software CPUs on a busy machine are slow. */
  startMs: 30_000,
  /** A guest that says nothing for so long, not even that it lives, hangs: its agent tells of itself every 5 s. */
  silenceMs: 30_000,
};

/**
 * Runs a command in the guest and yields what happens, `end` last. A program that cannot be started is an `end` without `start`. The
 * command and all it started end with this: when the caller leaves or `signal` aborts, when the sandbox's run ends, when the guest hangs.
 */
export async function* execStream(
  guest: CommandGuest,
  options: ExecOptions,
  signal?: AbortSignal,
): AsyncGenerator<ExecEvent> {
  const { cmd, args, envs, cwd, user, timeoutSec, hasStdin = false, isDetached = false } = options;
  const { maxOutputBytes = 0, waits = defaultWaits } = options;
  using attached = guest.attached.add({ isDetached, ...(signal ? { signal } : {}) });
  let hasStarted = false;
  const watch = new SilenceWatch((afterMs) => {
    const seconds = Math.round(afterMs / 1_000);
    const what = hasStarted
      ? `the guest agent has not answered for ${seconds} s; whether the command goes on is not known`
      : `the guest agent does not answer: the command was not started within ${seconds} s`;
    attached.end(new AppError('guest_unavailable', `${what}; pause or delete the sandbox if it stays so`));
  });
  try {
    const events = guest.commands
      .run(
        {
          ...{ cmd, args: [...args], envs, user, stdin: hasStdin, detach: isDetached },
          ...(cwd === undefined ? {} : { cwd }),
          timeoutMs: timeoutSec * 1_000,
          maxOutputBytes: BigInt(maxOutputBytes),
        },
        { signal: attached.signal },
      )
      [Symbol.asyncIterator]();
    for (;;) {
      watch.start(hasStarted ? waits.silenceMs : waits.startMs);
      const next = await events.next();
      watch.stop();
      if (next.done) throw new AppError('guest_unavailable', 'the guest agent ended the stream without an exit code');
      const { event } = next.value;
      hasStarted = true;
      switch (event.case) {
        case 'start':
          yield { kind: 'start', pid: event.value.pid };
          break;
        case 'stdout':
        case 'stderr':
          yield { kind: event.case, data: event.value };
          break;
        case 'end':
          yield { kind: 'end', end: event.value };
          return;
      }
    }
  } catch (error) {
    throw attached.reason ?? execError(fromGuestError(error, 'run the command'));
  } finally {
    watch.stop();
  }
}

/** Calls back when nothing came for the time given to the last {@link start}. */
class SilenceWatch {
  readonly #onSilence: (afterMs: number) => void;
  #timer: NodeJS.Timeout | undefined;

  constructor(onSilence: (afterMs: number) => void) {
    this.#onSilence = onSilence;
  }

  start(waitMs: number): void {
    this.#timer = setTimeout(() => this.#onSilence(waitMs), waitMs);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}

/** The same in terms of the command: only the sandbox itself is ever "not found" to a caller. */
function execError(error: AppError): AppError {
  if (error.code !== 'not_found') return error;
  return new AppError('invalid_request', error.message, { details: { field: 'cmd', ...error.details }, cause: error });
}

const inputChunkBytes = 512 * 1024;

/**
 * Writes to a command's standard input, and closes it after the last. Resolves when the command has taken the bytes; with false when it
 * takes no more, because it has closed its input or ended: no error, as its own exit code tells.
 */
export async function sendExecInput(
  guest: CommandGuest,
  { pid, data, isLast }: { pid: number; data: Uint8Array; isLast: boolean },
  signal?: AbortSignal,
): Promise<boolean> {
  const process = { selector: { case: 'pid' as const, value: pid } };
  const options = signal ? { signal } : {};
  try {
    for (let offset = 0; offset < data.byteLength; offset += inputChunkBytes) {
      const value = data.subarray(offset, offset + inputChunkBytes);
      await guest.processes.sendInput({ process, input: { input: { case: 'stdin', value } } }, options);
    }
    if (isLast) await guest.processes.closeStdin({ process }, options);
    return !isLast;
  } catch (error) {
    const known = fromGuestError(error, 'send the input');
    if (known.code === 'not_found' || known.code === 'invalid_state') return false;
    throw known;
  }
}

/** Signals a command and everything it started. False when it had ended. */
export async function signalExec(
  guest: CommandGuest,
  { pid, wanted }: { pid: number; wanted: Signal },
  signal?: AbortSignal,
): Promise<boolean> {
  try {
    await guest.processes.sendSignal(
      { process: { selector: { case: 'pid', value: pid } }, signal: wanted, tree: true },
      { timeoutMs: 10_000, ...(signal ? { signal } : {}) },
    );
    return true;
  } catch (error) {
    const known = fromGuestError(error, 'signal the command');
    if (known.code === 'not_found') return false;
    throw known;
  }
}

export interface ExecResult {
  stdout: Buffer;
  stderr: Buffer;
  /** Undefined for a detached command, which was only started. */
  end?: CommandEvent_End;
  pid: number;
  durationMs: number;
}

/**
 * Runs a command in the guest to its end, or to its start when it is detached. Output past {@link execLimits.maxOutputBytes} per stream is
 * dropped in the guest, and counted.
 */
export async function execBuffered(
  guest: CommandGuest,
  options: ExecOptions & { stdin?: Uint8Array },
  signal?: AbortSignal,
): Promise<ExecResult> {
  const { stdin = new Uint8Array(), ...command } = options;
  const startedAt = performance.now();
  const kept = { stdout: [] as Uint8Array[], stderr: [] as Uint8Array[] };
  const sizes = { stdout: 0, stderr: 0 };
  const ended = new AbortController();
  let pid = 0;
  const result = () => ({
    stdout: Buffer.concat(kept.stdout),
    stderr: Buffer.concat(kept.stderr),
    pid,
    durationMs: Math.round(performance.now() - startedAt),
  });
  const { maxOutputBytes } = execLimits;
  const hasStdin = stdin.byteLength > 0;
  try {
    for await (const event of execStream(guest, { ...command, hasStdin, maxOutputBytes }, signal)) {
      switch (event.kind) {
        case 'start':
          pid = event.pid;
          // Beside the output: a command may write before it has read everything. What cannot be sent shows in what it does.
          if (hasStdin)
            void sendExecInput(guest, { pid, data: stdin, isLast: true }, ended.signal).catch(() => undefined);
          if (options.isDetached) return result();
          break;
        case 'stdout':
        case 'stderr':
          // A guest that keeps to no limit costs nothing here either.
          if (sizes[event.kind] >= maxOutputBytes) break;
          kept[event.kind].push(event.data);
          sizes[event.kind] += event.data.byteLength;
          break;
        case 'end':
          return { ...result(), end: event.end };
      }
    }
  } finally {
    // A detached command goes on to be given its input.
    if (!options.isDetached) ended.abort();
  }
  throw new AppError('guest_unavailable', 'the guest agent ended the stream without an exit code');
}
