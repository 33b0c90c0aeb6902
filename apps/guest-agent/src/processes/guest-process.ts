import { AppError } from '@aviary/core';
import type { ExitStatus } from './exit-status.ts';
import { type OutputChunk, OutputLog, type OutputStream } from './output-log.ts';
import { processLimits } from './process-limits.ts';
import type { ProcessListener, RunningProcess } from './running-process.ts';
import type { ProcessGroup } from './user-cgroup.ts';

export interface ProcessDescription {
  command: string;
  args: readonly string[];
  envs: Readonly<Record<string, string>>;
  cwd: string | undefined;
  tag: string | undefined;
}

/** What a reader of a process gets next. `timedOutMs`: the limit that it was killed at. */
export type ProcessUpdate =
  | { kind: 'output'; chunk: OutputChunk }
  | { kind: 'end'; status: ExitStatus; timedOutMs?: number };

/** How a process is started and whom it belongs to. */
export interface ProcessTerms {
  description: ProcessDescription;
  group: ProcessGroup | undefined;
  hasTerminal: boolean;
  /** It belongs to the client that started it, its only reader: waits for that as long as it takes, and loses nothing. */
  isOwned?: boolean;
  /** Bytes of each stream that are kept; what comes after is dropped and counted. */
  maxOutputBytes?: number | undefined;
}

interface Reader {
  /** Number of the chunk it takes next. */
  next: number;
  wake: () => void;
  /** While it is far behind: since when, and the bytes it took since then. */
  lag: { sinceMs: number; takenBytes: number } | undefined;
}

/**
 * One process with its kept output and its readers. Output goes into the log whoever reads; a reader that is far behind
 * holds the process back through its pipe as long as it reads at a fair rate, and after that runs the risk of losing output.
 */
export class GuestProcess implements ProcessListener {
  readonly description: ProcessDescription;
  readonly #group: ProcessGroup | undefined;
  readonly #log: OutputLog;
  readonly #readers = new Set<Reader>();
  readonly #onEnd: (process: GuestProcess) => void;
  #running: RunningProcess | undefined;
  #status: ExitStatus | undefined;
  #isEndRead = false;
  #isPaused = false;
  #holdTimer: NodeJS.Timeout | undefined;
  #deadlineTimer: NodeJS.Timeout | undefined;
  #timedOutMs: number | undefined;
  readonly #isOwned: boolean;
  readonly #maxOutputBytes: number;
  readonly #outputBytes: Record<OutputStream, number> = { stdout: 0, stderr: 0, pty: 0 };

  constructor(
    { description, group, hasTerminal, isOwned = false, maxOutputBytes = Number.POSITIVE_INFINITY }: ProcessTerms,
    onEnd: (process: GuestProcess) => void,
  ) {
    this.description = description;
    this.#group = group;
    this.#onEnd = onEnd;
    this.#isOwned = isOwned;
    this.#maxOutputBytes = maxOutputBytes;
    this.#log = new OutputLog({
      maxBytes: processLimits.keptOutputBytes,
      maxChunkBytes: hasTerminal ? processLimits.terminalChunkBytes : processLimits.chunkBytes,
    });
  }

  /** Takes over the process that this listened to from its start. */
  attach(running: RunningProcess): void {
    this.#running = running;
  }

  get running(): RunningProcess {
    if (!this.#running) throw new Error('invariant broken: a process is used only after it was attached');
    return this.#running;
  }

  get pid(): number {
    return this.running.pid;
  }

  get hasEnded(): boolean {
    return this.#status !== undefined;
  }

  /** True once a reader got the exit status. */
  get isEndRead(): boolean {
    return this.#isEndRead;
  }

  markEndRead(): void {
    this.#isEndRead = true;
  }

  /** Kills the process and all it started when it still runs after `timeoutMs`. */
  endAfter(timeoutMs: number): void {
    if (this.hasEnded) return;
    this.#deadlineTimer = setTimeout(() => {
      this.#timedOutMs = timeoutMs;
      this.killTree();
    }, timeoutMs);
  }

  /** Bytes of a stream that were dropped because they came after its limit. */
  droppedBytes(stream: OutputStream): number {
    return Math.max(this.#outputBytes[stream] - this.#maxOutputBytes, 0);
  }

  onOutput(stream: OutputStream, output: Buffer): void {
    const room = Math.max(this.#maxOutputBytes - this.#outputBytes[stream], 0);
    this.#outputBytes[stream] += output.length;
    if (room === 0) return;
    const bytes = output.length > room ? output.subarray(0, room) : output;
    this.#log.append(stream, bytes);
    for (const reader of this.#readers) reader.wake();
    if (this.#readers.size > 0) this.#balance();
  }

  onExit(status: ExitStatus): void {
    this.#status = status;
    clearTimeout(this.#holdTimer);
    clearTimeout(this.#deadlineTimer);
    for (const reader of this.#readers) reader.wake();
    this.#onEnd(this);
  }

  /**
   * The kept output from its start, then what comes, then the end. `whenIdle` is called after `idleMs` without news.
   * Throws the signal's reason when it aborts, `rate_limited` when output was dropped before it was read.
   */
  async *read(signal: AbortSignal, idleMs: number): AsyncGenerator<ProcessUpdate | { kind: 'idle' }> {
    const reader: Reader = { next: this.#log.start, wake: () => undefined, lag: undefined };
    const leave = () => {
      this.#readers.delete(reader);
      this.#balance();
      reader.wake();
    };
    this.#readers.add(reader);
    signal.addEventListener('abort', leave, { once: true });
    try {
      for (;;) {
        signal.throwIfAborted();
        const chunk = this.#log.at(reader.next);
        if (chunk) {
          this.#take(reader, chunk);
          yield { kind: 'output', chunk };
        } else if (reader.next < this.#log.start) {
          throw new AppError(
            'rate_limited',
            'this reader fell behind the process and output was dropped; connect again to read what is kept',
          );
        } else if (this.#status) {
          const timedOutMs = this.#timedOutMs;
          yield { kind: 'end', status: this.#status, ...(timedOutMs === undefined ? {} : { timedOutMs }) };
          return;
        } else if (!(await this.#changed(reader, idleMs))) {
          yield { kind: 'idle' };
        }
      }
    } finally {
      signal.removeEventListener('abort', leave);
      leave();
    }
  }

  /** Signals the process alone; false when it has ended. */
  signal(signal: NodeJS.Signals): boolean {
    return !this.hasEnded && this.running.signal(signal);
  }

  /** Signals the process and everything it started that is still there; false when nothing is. */
  signalTree(signal: NodeJS.Signals): boolean {
    if (signal === 'SIGKILL') return this.killTree();
    const members = this.#group?.members() ?? [];
    if (members.length === 0) return this.#signalProcessGroup(signal);
    for (const pid of members) sendSignal(pid, signal);
    return true;
  }

  killTree(): boolean {
    const isGroupPopulated = (this.#group?.members().length ?? 0) > 0;
    if (isGroupPopulated) this.#group?.kill();
    return this.#signalProcessGroup('SIGKILL') || isGroupPopulated;
  }

  /** Gives the kernel's group back; false while something still runs in it. */
  releaseGroup(): boolean {
    return this.#group?.remove() ?? true;
  }

  /** Every process leads a process group of its own: without a cgroup, that is what is known of its tree. */
  #signalProcessGroup(signal: NodeJS.Signals): boolean {
    return !this.hasEnded && sendSignal(-this.pid, signal);
  }

  #take(reader: Reader, chunk: OutputChunk): void {
    reader.next++;
    if (reader.lag) {
      reader.lag.takenBytes += chunk.bytes.length;
      this.#balance();
    }
  }

  /** Holds the process while a reader that is far behind keeps up a fair rate; lets it go otherwise. */
  #balance(): void {
    if (this.hasEnded || !this.#running) return;
    const now = performance.now();
    let holdMs = 0;
    for (const reader of this.#readers) {
      const behind = this.#log.bytesSince(reader.next);
      if (behind > processLimits.maxLagBytes) reader.lag ??= { sinceMs: now, takenBytes: 0 };
      else if (behind <= processLimits.maxLagBytes / 2) reader.lag = undefined;
      if (reader.lag) holdMs = Math.max(holdMs, this.#isOwned ? Infinity : remainingHoldMs(reader.lag, now));
    }
    const mustPause = holdMs > 0;
    if (mustPause !== this.#isPaused) {
      this.#isPaused = mustPause;
      if (mustPause) this.#running.pauseOutput();
      else this.#running.resumeOutput();
    }
    clearTimeout(this.#holdTimer);
    if (mustPause && holdMs !== Infinity) this.#holdTimer = setTimeout(() => this.#balance(), holdMs);
  }

  /** Resolves true at news, false after `idleMs` without. */
  #changed(reader: Reader, idleMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), idleMs);
      reader.wake = () => {
        clearTimeout(timer);
        reader.wake = () => undefined;
        resolve(true);
      };
    });
  }
}

function remainingHoldMs({ sinceMs, takenBytes }: { sinceMs: number; takenBytes: number }, now: number): number {
  const earnedMs = (takenBytes / processLimits.minReaderBytesPerSecond) * 1_000;
  return processLimits.holdAllowanceMs + earnedMs - (now - sinceMs);
}

function sendSignal(pid: number, signal: NodeJS.Signals): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw error;
  }
}
