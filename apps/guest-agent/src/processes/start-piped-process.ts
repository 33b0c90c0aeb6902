import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import { AppError } from '@aviary/core';
import { type ChildEnd, createPipe, spawnProcess } from '@aviary/linux';
import { asUser } from '../users/as-user.ts';
import { type ExitStatus, exitStatus } from './exit-status.ts';
import { type Launcher, type LaunchRequest, launcherArguments } from './launch-command.ts';
import { processLimits } from './process-limits.ts';
import type { ProcessListener, RunningProcess } from './running-process.ts';
import { startError } from './start-error.ts';

type Pipe = ReturnType<typeof createPipe>;

interface Pipes {
  stdin: Pipe | undefined;
  stdout: Pipe;
  stderr: Pipe;
}

/** Starts a program behind pipes, as its user and in its group. Throws before anything runs when it cannot. */
export async function startPipedProcess(
  { launcher, request, hasStdin }: { launcher: Launcher; request: LaunchRequest; hasStdin: boolean },
  listener: ProcessListener,
): Promise<RunningProcess> {
  const [file = '', ...args] = launcherArguments(launcher, request, 'by-descriptor');
  const membersFd = request.group?.openMembers();
  const made: Pipe[] = [];
  const pipe = () => {
    const ends = createPipe();
    made.push(ends);
    return ends;
  };
  let keptFds: readonly number[] = [];
  try {
    let started: PipedProcess | undefined;
    const onEnd = (end: ChildEnd) => started?.end(end); // in a later turn
    const { pid, pipes } = asUser(request.user, () => {
      // Made as the user, who then owns them and may open /dev/stdout. Node's own are sockets, which nobody can open.
      const pipes: Pipes = { stdin: hasStdin ? pipe() : undefined, stdout: pipe(), stderr: pipe() };
      const stdio = [pipes.stdin?.readFd ?? null, pipes.stdout.writeFd, pipes.stderr.writeFd];
      const descriptors = membersFd === undefined ? stdio : [...stdio, membersFd];
      const { cwd, env } = request;
      return { pid: spawnProcess({ file, args, env, cwd, descriptors }, onEnd), pipes };
    });
    keptFds = [pipes.stdout.readFd, pipes.stderr.readFd, ...(pipes.stdin ? [pipes.stdin.writeFd] : [])];
    started = new PipedProcess({ pid, pipes, listener });
    return started;
  } catch (error) {
    throw error instanceof AppError ? error : startError(error, request);
  } finally {
    if (membersFd !== undefined) closeSync(membersFd);
    for (const fd of made.flatMap(({ readFd, writeFd }) => [readFd, writeFd])) {
      if (!keptFds.includes(fd)) closeSync(fd);
    }
  }
}

/** What is read is copied out at once, so all pipes share it. */
const readBuffer = Buffer.alloc(processLimits.chunkBytes);

/**
 * How long output is left to gather after a read of so many bytes, `gapMs` after the one before: nothing for what people type and see, and
 * longer where a read takes longer, so that the program runs for most of the time on any processor.
 */
export function gatherMs(bytes: number, gapMs: number): number {
  const { min, max } = processLimits.gatheredReadBytes;
  if (bytes < min || bytes >= max || gapMs > processLimits.maxGatherGapMs) return 0;
  return Math.min(Math.max(2 * gapMs, 1), processLimits.maxGatherMs);
}

class PipedProcess implements RunningProcess {
  readonly pid: number;
  readonly hasTerminal = false;
  readonly #stdin: Socket | undefined;
  readonly #outputs: readonly Socket[];
  readonly #listener: ProcessListener;
  #status: ExitStatus | undefined;
  #isReported = false;
  #isHeld = false;
  #readCount = 0;

  constructor({ pid, pipes, listener }: { pid: number; pipes: Pipes; listener: ProcessListener }) {
    this.pid = pid;
    this.#listener = listener;
    if (pipes.stdin) {
      this.#stdin = new Socket({ fd: pipes.stdin.writeFd, readable: false, writable: true });
      this.#stdin.on('error', () => this.#stdin?.destroy()); // EPIPE: the writer's own callback reports it
    }
    this.#outputs = (['stdout', 'stderr'] as const).map((stream) => {
      let lastReadAt = Number.NEGATIVE_INFINITY;
      const take = (length: number): boolean => {
        this.#readCount++;
        // Output of a background program that outlives the process: read, so that it can go on, and not kept.
        if (!this.#isReported) listener.onOutput(stream, Buffer.from(readBuffer.subarray(0, length)));
        const now = performance.now();
        const waitMs = this.#status ? 0 : gatherMs(length, now - lastReadAt);
        lastReadAt = now;
        if (waitMs > 0) this.#letGather(output, waitMs);
        return waitMs === 0 && !this.#isHeld;
      };
      // Read into one buffer, and only while it is not paused: a stream that buffers would go on reading small pieces.
      const onread = { buffer: readBuffer, callback: take };
      const output = new Socket({ fd: pipes[stream].readFd, readable: true, writable: false, onread });
      output.on('error', () => output.destroy());
      output.on('close', () => this.#reportWhenComplete());
      output.resume();
      return output;
    });
  }

  /** Told when the process has ended and is reaped. */
  end({ code, signal }: ChildEnd): void {
    this.#status = exitStatus(code, signal);
    this.#stdin?.destroy();
    this.resumeOutput();
    this.#reportWhenComplete();
    if (!this.#isReported) this.#reportWhenQuiet(performance.now());
  }

  get pendingInputBytes(): number {
    return this.#stdin?.writableLength ?? 0;
  }

  write(bytes: Uint8Array): Promise<void> {
    const stdin = this.#stdin;
    if (!stdin?.writable) return Promise.reject(inputClosed(this.pid));
    return new Promise((resolve, reject) => {
      stdin.write(bytes, (error) => {
        if (error) reject(inputClosed(this.pid));
        else resolve();
      });
    });
  }

  closeInput(): void {
    this.#stdin?.end();
  }

  resize(): void {
    throw new AppError('invalid_state', `process ${this.pid} has no terminal to resize; start it with a pty`);
  }

  signal(signal: NodeJS.Signals): boolean {
    // It is reaped on this thread, and told of at once: until then no other process can have the pid.
    return this.#status === undefined && process.kill(this.pid, signal);
  }

  pauseOutput(): void {
    this.#isHeld = true;
    if (!this.#status) for (const output of this.#outputs) output.pause();
  }

  resumeOutput(): void {
    this.#isHeld = false;
    for (const output of this.#outputs) output.resume();
  }

  /**
   * A program that writes much in small pieces is read in large ones: each read costs the agent the same, whatever it brings, and would
   * take the processor from the program.
   */
  #letGather(output: Socket, waitMs: number): void {
    setTimeout(() => {
      if (!this.#isHeld || this.#status) output.resume();
    }, waitMs);
  }

  #reportWhenComplete(): void {
    if (this.#status && this.#outputs.every((output) => output.destroyed)) this.#report(this.#status);
  }

  /**
   * After exit, what the process wrote sits in its pipes and is read at once; only a program it left behind can keep a
   * pipe open. So the end is reported when nothing was read for a while, or a bounded time after exit.
   */
  #reportWhenQuiet(exitedAt: number): void {
    const readCount = this.#readCount;
    setTimeout(() => {
      // Timers run before reads in a turn of the event loop: a late loop must read first, then judge.
      setImmediate(() => {
        if (this.#isReported || !this.#status) return;
        const isLate = performance.now() - exitedAt > processLimits.maxAfterExitMs;
        if (isLate || this.#readCount === readCount) this.#report(this.#status);
        else this.#reportWhenQuiet(exitedAt);
      });
    }, processLimits.quietAfterExitMs);
  }

  #report(status: ExitStatus): void {
    if (this.#isReported) return;
    this.#isReported = true;
    this.#listener.onExit(status);
  }
}

function inputClosed(pid: number): AppError {
  return new AppError('invalid_state', `cannot write to process ${pid}: its standard input is closed`);
}
