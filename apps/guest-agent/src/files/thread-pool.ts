import { SHARE_ENV, Worker } from 'node:worker_threads';
import { AppError } from '@aviary/core';
import type { GuestUser } from '../users/user-database.ts';
import type { FileOperationInput, FileOperationName, FileOperationOutput } from './file-operations.ts';
import type { ThreadAnswer, ThreadJob } from './thread-messages.ts';

export interface FileRequest<N extends FileOperationName> {
  user: GuestUser;
  input: FileOperationInput<N>;
  /** Ends the wait for the answer, and the operation itself where it looks. */
  signal: AbortSignal;
  /** Called with an answer that came when nobody waited any more: frees what it holds. */
  release?: (output: FileOperationOutput<N>) => void;
}

export interface FileThreadPoolOptions {
  /** Threads at once. More than one, as a file system of the user's own making may never answer. */
  maxThreads?: number;
  /** How long a thread without work stays: it costs some MiB, and starting one some milliseconds. */
  idleMs?: number;
}

/** As a bundle this module and the thread's are files side by side. */
const entry = new URL(import.meta.url.endsWith('.ts') ? './file-thread.ts' : './file-thread.mjs', import.meta.url);
const resourceLimits = { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 4, stackSizeMb: 2 };

/**
 * Does file operations with the rights of the user who asked, on threads of their own: the rights of a thread are its own, and an operation
 * that hangs holds up neither the agent nor what else its thread pool does. Threads start at the first request and end when they are idle.
 */
export class FileThreadPool implements AsyncDisposable {
  readonly #maxThreads: number;
  readonly #idleMs: number;
  readonly #threads = new Set<FileThread>();
  readonly #idle: FileThread[] = [];
  readonly #waiting: ((thread: FileThread) => void)[] = [];

  constructor({ maxThreads = 4, idleMs = 30_000 }: FileThreadPoolOptions = {}) {
    this.#maxThreads = maxThreads;
    this.#idleMs = idleMs;
  }

  /** Threads without work that are kept for a while. */
  get idle(): number {
    return this.#idle.length;
  }

  /** Throws what the operation throws, and `cancelled` as soon as `signal` aborts. */
  async run<N extends FileOperationName>(
    operation: N,
    { user, input, signal, release }: FileRequest<N>,
  ): Promise<FileOperationOutput<N>> {
    const thread = await this.#acquire(signal);
    // An abort while it was waited for is told to nobody any more.
    if (signal.aborted) {
      this.#giveBack(thread);
      throw clientLeft();
    }
    const cancelled = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
    const left = Promise.withResolvers<never>();
    const onAbort = () => {
      Atomics.store(cancelled, 0, 1);
      left.reject(clientLeft());
    };
    signal.addEventListener('abort', onAbort, { once: true });
    const answered = thread.perform({ operation, user, input, cancelled }) as Promise<FileOperationOutput<N>>;
    void answered.then(
      () => this.#giveBack(thread),
      () => this.#giveBack(thread),
    );
    try {
      return await Promise.race([answered, left.promise]);
    } catch (error) {
      if (signal.aborted) answered.then(release, () => undefined);
      throw error;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** Ends all threads, whatever they do. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#threads].map((thread) => thread[Symbol.asyncDispose]()));
  }

  async #acquire(signal: AbortSignal): Promise<FileThread> {
    if (signal.aborted) throw clientLeft();
    const idle = this.#idle.pop();
    if (idle) return idle.use();
    if (this.#threads.size < this.#maxThreads) return this.#start();
    const { promise, resolve, reject } = Promise.withResolvers<FileThread>();
    const onAbort = () => {
      const place = this.#waiting.indexOf(resolve);
      if (place >= 0) this.#waiting.splice(place, 1);
      reject(clientLeft());
    };
    this.#waiting.push(resolve);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      return await promise;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  #start(): FileThread {
    const thread = new FileThread(() => {
      // One that ends makes room for another, which those who wait are owed.
      if (this.#threads.delete(thread)) this.#waiting.shift()?.(this.#start());
    });
    this.#threads.add(thread);
    return thread;
  }

  #giveBack(thread: FileThread): void {
    if (!this.#threads.has(thread)) return;
    const next = this.#waiting.shift();
    if (next) next(thread);
    else {
      this.#idle.push(thread);
      thread.endAfter(this.#idleMs, () => this.#idle.splice(this.#idle.indexOf(thread), 1));
    }
  }
}

class FileThread implements AsyncDisposable {
  readonly #worker: Worker;
  #answer: PromiseWithResolvers<unknown> | undefined;
  #idleTimer: NodeJS.Timeout | undefined;

  constructor(onEnd: () => void) {
    // Descriptors that the thread opens are used, and closed, by the agent.
    this.#worker = new Worker(entry, { trackUnmanagedFds: false, env: SHARE_ENV, execArgv: [], resourceLimits });
    this.#worker.unref();
    this.#worker.on('message', (answer: ThreadAnswer) => {
      if ('output' in answer) this.#answer?.resolve(answer.output);
      else {
        const { code, message, details } = answer.error;
        this.#answer?.reject(code === undefined ? new Error(message) : new AppError(code, message, { details }));
      }
    });
    const end = (cause: unknown) => {
      onEnd();
      this.#answer?.reject(new AppError('internal', 'a file operation ended without an answer', { cause }));
    };
    this.#worker.on('error', end);
    this.#worker.on('exit', end);
  }

  /** One at a time. */
  perform(job: ThreadJob): Promise<unknown> {
    this.#answer = Promise.withResolvers();
    this.#worker.postMessage(job);
    return this.#answer.promise;
  }

  use(): this {
    clearTimeout(this.#idleTimer);
    return this;
  }

  endAfter(idleMs: number, onEnd: () => void): void {
    this.#idleTimer = setTimeout(() => {
      onEnd();
      void this[Symbol.asyncDispose]();
    }, idleMs).unref();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#idleTimer);
    await this.#worker.terminate();
  }
}

function clientLeft(): AppError {
  return new AppError('cancelled', 'the client left');
}
