import { spawn } from 'node:child_process';
import { AppError } from '@aviary/core';

export interface RunProgramOptions {
  /** Written to standard input, which is then closed. */
  input?: string | Buffer;
  cwd?: string;
  env?: Record<string, string>;
  /** Default 60 000. The program is killed at the deadline. */
  timeoutMs?: number;
  signal?: AbortSignal;
  /** Called with each piece of output as it comes; nothing is kept then. */
  onOutput?: (text: string) => void;
  /** Exit codes that are not failures. Default [0]. */
  okExitCodes?: readonly number[];
}

export interface ProgramResult {
  stdout: string;
  stderr: string;
  exitCode: number;
}

const maxKeptBytes = 16 * 1024 * 1024;

/**
 * Runs a program by argument array, never through a shell, and resolves with its output.
 * Throws `internal` with the program, its exit code and the end of its error output; `not_found` when it is not installed.
 */
export function runProgram(
  file: string,
  args: readonly string[],
  options: RunProgramOptions = {},
): Promise<ProgramResult> {
  const { input, cwd, env, timeoutMs = 60_000, signal, onOutput, okExitCodes = [0] } = options;
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, {
      stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
      ...(cwd === undefined ? {} : { cwd }),
      ...(env === undefined ? {} : { env }),
      ...(signal === undefined ? {} : { signal }),
      killSignal: 'SIGKILL',
    });
    const kept = { stdout: '', stderr: '' };
    let isTimedOut = false;
    const timer = setTimeout(() => {
      isTimedOut = true;
      child.kill('SIGKILL');
    }, timeoutMs);
    for (const name of ['stdout', 'stderr'] as const) {
      child[name]?.setEncoding('utf8').on('data', (text: string) => {
        onOutput?.(text);
        kept[name] = (kept[name] + text).slice(-maxKeptBytes);
      });
    }
    child.on('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      if (error.code === 'ENOENT') {
        reject(
          new AppError('not_found', `cannot run ${file}: it is not installed; 'aviary doctor' names the package`, {
            cause: error,
          }),
        );
      } else reject(error);
    });
    child.on('close', (code, killedBy) => {
      clearTimeout(timer);
      const exitCode = code ?? -1;
      if (isTimedOut)
        reject(new AppError('deadline_exceeded', `${file} did not finish within ${Math.round(timeoutMs)} ms`));
      else if (okExitCodes.includes(exitCode)) resolve({ ...kept, exitCode });
      else {
        const why = killedBy ? `killed by ${killedBy}` : `exit code ${exitCode}`;
        const output = (kept.stderr || kept.stdout).trim().slice(-2_000);
        reject(
          new AppError('internal', `${file} ${args.slice(0, 3).join(' ')} failed (${why}): ${output}`, {
            details: { exitCode },
          }),
        );
      }
    });
    if (input !== undefined) {
      child.stdin?.on('error', () => undefined); // the exit code tells; a closed pipe is not the news
      child.stdin?.end(input);
    }
  });
}
