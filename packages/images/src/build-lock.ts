import { spawn } from 'node:child_process';
import { AppError } from '@aviary/core';

const heldMark = 'held\n';
const conflictExitCode = 75;

export interface BuildLockOptions {
  signal?: AbortSignal;
  /** Called once when somebody else holds the lock and this call starts to wait. */
  onWait?: () => void;
}

/**
 * Takes the kernel's lock on `file` (flock(2)) and keeps it until disposed. It belongs to a child process that echoes its
 * input: the echo tells that the lock is held, and the end of its input, which comes however this process ends, gives it up.
 * No lock outlives its owner, so there is nothing stale to judge.
 */
export async function acquireBuildLock(file: string, options: BuildLockOptions = {}): Promise<AsyncDisposable> {
  const free = await tryLock(file, { isWaiting: false });
  if (free) return free;
  options.onWait?.();
  const waited = await tryLock(file, { isWaiting: true, ...(options.signal ? { signal: options.signal } : {}) });
  if (!waited) throw new AppError('internal', `cannot lock ${file}`);
  return waited;
}

function tryLock(
  file: string,
  { isWaiting, signal }: { isWaiting: boolean; signal?: AbortSignal },
): Promise<AsyncDisposable | undefined> {
  const wait = isWaiting ? [] : ['--nonblock', '--conflict-exit-code', String(conflictExitCode)];
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const child = spawn('flock', ['--exclusive', '--no-fork', ...wait, file, 'cat'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const exited = new Promise<void>((settle) => child.once('close', () => settle()));
    const onAbort = () => {
      child.kill('SIGKILL');
      reject(signal?.reason);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    child.once('error', (error) => reject(new AppError('not_found', `cannot run flock on ${file}`, { cause: error })));
    child.once('exit', (code) => {
      signal?.removeEventListener('abort', onAbort);
      if (code === conflictExitCode) resolve(undefined);
      else reject(new AppError('internal', `cannot lock ${file}: flock ended with code ${code ?? 'none'}`));
    });
    child.stdout.once('data', () => {
      signal?.removeEventListener('abort', onAbort);
      resolve({
        async [Symbol.asyncDispose]() {
          child.stdin.end();
          await exited;
        },
      });
    });
    child.stdin.on('error', () => undefined); // the exit code tells why the pipe closed
    child.stdin.write(heldMark);
  });
}
