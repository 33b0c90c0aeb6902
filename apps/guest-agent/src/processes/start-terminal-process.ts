import { closeSync, writeSync } from 'node:fs';
import { AppError } from '@aviary/core';
import { PidFd, signalName } from '@aviary/linux';
import type { IPty } from '@lydell/node-pty';
import { asUser } from '../users/as-user.ts';
import { exitStatus } from './exit-status.ts';
import { type Launcher, type LaunchRequest, launcherArguments } from './launch-command.ts';
import type { ProcessListener, RunningProcess } from './running-process.ts';
import { startError } from './start-error.ts';

/** What the kernel's line discipline and the agent's memory can take; larger is not a terminal. */
const maxTerminalSide = 10_000;

/** Starts a program on a terminal of its own, as its user and in its group. */
export async function startTerminalProcess(
  { launcher, request, size }: { launcher: Launcher; request: LaunchRequest; size: { cols: number; rows: number } },
  listener: ProcessListener,
): Promise<RunningProcess> {
  const { cols, rows } = checkSize(size);
  // Loaded at first use: most sandboxes never open a terminal.
  const { spawn } = await import('@lydell/node-pty');
  const [file = '', ...args] = launcherArguments(launcher, request, 'when-moved');
  const membersFd = request.group?.openMembers();
  try {
    const terminal = asUser(request.user, () =>
      spawn(file, args, {
        cols,
        rows,
        cwd: request.cwd,
        env: { ...request.env },
        name: request.env['TERM'] ?? 'xterm-256color',
        encoding: null,
      }),
    );
    const running = new TerminalProcess(terminal, listener);
    if (membersFd !== undefined) writeSync(membersFd, String(terminal.pid));
    return running;
  } catch (error) {
    throw error instanceof AppError ? error : startError(error, request);
  } finally {
    if (membersFd !== undefined) closeSync(membersFd);
  }
}

class TerminalProcess implements RunningProcess {
  readonly pid: number;
  readonly hasTerminal = true;
  readonly pendingInputBytes = 0;
  readonly #terminal: IPty;
  readonly #pidFd: PidFd;
  #hasEnded = false;

  constructor(terminal: IPty, listener: ProcessListener) {
    this.#terminal = terminal;
    this.pid = terminal.pid;
    // The terminal library reaps on a thread of its own: by number, a signal could reach a stranger.
    this.#pidFd = PidFd.open(terminal.pid);
    // Without an encoding the library hands out the bytes as they are, whatever its types say.
    terminal.onData((data) => listener.onOutput('pty', data as unknown as Buffer));
    terminal.onExit(({ exitCode, signal }) => {
      this.#hasEnded = true;
      this.#pidFd.close();
      listener.onExit(exitStatus(exitCode, signalName(signal)));
    });
  }

  write(bytes: Uint8Array): Promise<void> {
    if (this.#hasEnded) return Promise.reject(new AppError('invalid_state', `process ${this.pid} has ended`));
    // It takes bytes as well, and its types do not say so: a string could not carry what is not UTF-8.
    this.#terminal.write(Buffer.from(bytes) as unknown as string);
    return Promise.resolve();
  }

  /** End of file on a terminal is a character: Control-D. */
  closeInput(): void {
    if (!this.#hasEnded) this.#terminal.write('\u0004');
  }

  resize(size: { cols: number; rows: number }): void {
    const { cols, rows } = checkSize(size);
    if (!this.#hasEnded) this.#terminal.resize(cols, rows);
  }

  signal(signal: NodeJS.Signals): boolean {
    return this.#pidFd.signal(signal);
  }

  pauseOutput(): void {
    if (!this.#hasEnded) this.#terminal.pause();
  }

  resumeOutput(): void {
    if (!this.#hasEnded) this.#terminal.resume();
  }
}

function checkSize({ cols, rows }: { cols: number; rows: number }): { cols: number; rows: number } {
  for (const side of [cols, rows]) {
    if (!Number.isInteger(side) || side < 1 || side > maxTerminalSide) {
      throw new AppError(
        'invalid_request',
        `a terminal has 1 to ${maxTerminalSide} columns and rows, not ${cols}x${rows}`,
      );
    }
  }
  return { cols, rows };
}
