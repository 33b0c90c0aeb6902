import { closeSync, fstatSync, openSync, readFileSync, readlinkSync, readSync, statSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { AppError, errorText } from '@aviary/core';
import {
  type ChildEnd,
  type Credentials,
  cloneMount,
  type HeldCall,
  type MountRestriction,
  SystemCallListener,
  watchProcess,
} from '@aviary/linux';
import { KeyedLock } from '@aviary/service-kit';
import type {
  AttachedMount,
  StarterThreadMessage,
  StarterThreadOptions,
  ThreadStartRequest,
} from './starter-thread.ts';

export interface StartRequest {
  /** Absolute. */
  file: string;
  args: readonly string[];
  /** Gets what the program prints. */
  logFd: number;
  /** Path of a network namespace. Undefined: one of its own, with nothing in it. */
  networkNamespace?: string | undefined;
  /** What the program sees of the host's files, at their own paths, beside the files of its kind. */
  visible: readonly { path: string; isWritable: boolean }[];
  /** Files that it may only read, though it asks to write: it gets a descriptor for reading. It need not see them. */
  readOnlyOpens: readonly string[];
  credentials: Credentials;
  /** Called with the process's id before its program runs; it runs when this resolves. */
  place: (pid: number) => Promise<void>;
}

export interface StartedProcess {
  pid: number;
  ended: Promise<ChildEnd>;
  /** Why a call of it could not be answered as it should have been; undefined while all were. */
  failure(): unknown;
  /** To be called once the program has opened what it needs to run: from then on, calls of it that are held up get no answer. */
  finishStart(): void;
}

/** What a start waits for while its calls are answered. */
interface Start {
  place: StartRequest['place'];
  /** By path. */
  readOnly: Map<string, OpenedFile>;
  pid?: number;
  failure?: unknown;
}

/** Held calls are looked for at least this often while a program starts. */
const waitMs = 100;
const maxPathBytes = 4_096;

/**
 * Starts programs that may have been taken over by a guest one day: each in namespaces of its own, under an identity without privileges, with a root in which
 * there is nothing of the host but what it needs, and placed (in its cgroup) before it runs. They outlive this process. Needs root and Linux 5.14.
 *
 * The programs are children of a thread that is in such surroundings itself; see `starter-thread.ts`. Their execs are held up until they are placed: a
 * process that is never placed, because this one has died, never becomes a program.
 */
export class Starter implements AsyncDisposable {
  readonly #options: StarterThreadOptions;
  readonly #lock = new KeyedLock<'thread'>();
  #thread: Promise<ReadyThread> | undefined;
  /** The one whose exec is due. */
  #launching: Start | undefined;
  readonly #starts = new Set<Start>();
  /** Of each thread whose children's calls are being answered, until nothing starts any more. */
  readonly #serving = new Map<ReadyThread, Promise<void>>();

  constructor(options: StarterThreadOptions) {
    this.#options = options;
  }

  /** Gets ready ahead of the first start, which is faster then. */
  async prepare(): Promise<void> {
    await this.#ready();
  }

  async start(request: StartRequest): Promise<StartedProcess> {
    return this.#lock.run('thread', async () => {
      const start: Start = { place: request.place, readOnly: new Map() };
      const finishStart = () => {
        if (this.#starts.delete(start)) for (const { fd } of start.readOnly.values()) closeSync(fd);
      };
      this.#starts.add(start);
      try {
        const thread = await this.#ready();
        using descriptors = new OpenDescriptors();
        const message = threadRequest(request, descriptors);
        for (const file of request.readOnlyOpens) start.readOnly.set(file, openForReading(file));
        this.#launching = start;
        if (!this.#serving.has(thread)) this.#serving.set(thread, this.#serve(thread));
        const pid = await thread.start(message);
        const ended = new Promise<ChildEnd>((resolve) => watchProcess(pid, resolve));
        return { pid, ended, failure: () => start.failure, finishStart };
      } catch (cause) {
        finishStart();
        if (start.failure !== undefined) throw start.failure;
        throw new AppError('internal', `cannot start ${request.file}: ${errorText(cause)}`, { cause });
      } finally {
        this.#launching = undefined;
      }
    });
  }

  /** A thread that has ended is replaced. */
  #ready(): Promise<ReadyThread> {
    if (!this.#thread) {
      const starting = startThread(this.#options);
      this.#thread = starting;
      const forget = () => {
        if (this.#thread === starting) this.#thread = undefined;
      };
      starting.then(async (thread) => {
        await thread.gone;
        forget();
        // Programs that it has started may still wait for answers.
        await this.#serving.get(thread);
        await thread.stop();
      }, forget);
    }
    return this.#thread;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#serving.values());
    const thread = await this.#thread?.catch(() => undefined);
    this.#thread = undefined;
    await thread?.stop();
  }

  /** Answers held calls while anything starts. When that fails, what is held up fails with the thread, whose listener goes. */
  async #serve(thread: ReadyThread): Promise<void> {
    const { listener, stop } = thread;
    try {
      while (this.#starts.size > 0) {
        await listener.wait(waitMs);
        for (let held = listener.receive(); held; held = listener.receive()) await this.#answer(listener, held);
      }
    } catch (error) {
      if (this.#launching) this.#launching.failure = error;
      await stop();
    } finally {
      this.#serving.delete(thread);
    }
  }

  async #answer(listener: SystemCallListener, held: HeldCall): Promise<void> {
    if (held.call.kind === 'exec') return this.#answerExec(listener, held);
    const pid = processOf(held.pid);
    const start = [...this.#starts].find((each) => each.pid === pid);
    // A program that has started opens nothing in this way; one that does waits for its end.
    if (!start) return;
    try {
      const file = start.readOnly.get(readPath(held.pid, held.call.pathAddress));
      if (file === undefined) return listener.allow(held);
      requireUnchanged(file);
      listener.answerWithDescriptor(held, file.fd);
    } catch (error) {
      // Nobody hears this when it has ended meanwhile, as is most likely.
      start.failure ??= error;
      listener.refuse(held, 'EACCES');
    }
  }

  /** The first exec of a process is its program. Any other is nothing that these programs do, and must not pass for the one that is due. */
  async #answerExec(listener: SystemCallListener, held: HeldCall): Promise<void> {
    const start = this.#launching;
    if (!start || start.pid !== undefined || !isWithoutProgram(held.pid)) return listener.refuse(held, 'EPERM');
    start.pid = held.pid;
    try {
      await start.place(held.pid);
      listener.allow(held);
    } catch (error) {
      start.failure = error;
      listener.refuse(held, 'EPERM');
    }
  }
}

interface ReadyThread {
  listener: SystemCallListener;
  /** Resolves when it has ended. */
  gone: Promise<void>;
  start(request: ThreadStartRequest): Promise<number>;
  stop(): Promise<void>;
}

async function startThread(options: StarterThreadOptions): Promise<ReadyThread> {
  const worker = new Worker(new URL('./starter-thread.ts', import.meta.url), {
    workerData: options,
    // It closes descriptors that it did not open through Node.
    trackUnmanagedFds: false,
  });
  worker.unref();
  let pending = Promise.withResolvers<StarterThreadMessage>();
  let end: unknown;
  const gone = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
  worker.on('message', (message: StarterThreadMessage) => pending.resolve(message));
  worker.on('error', (error) => {
    end = error;
  });
  void gone.then(() => pending.reject(end ?? new Error('the starter thread has ended')));
  const answer = async () => {
    const message = await pending.promise;
    pending = Promise.withResolvers<StarterThreadMessage>();
    pending.promise.catch(() => undefined);
    return message;
  };
  const first = await answer();
  if (!('listenerFd' in first)) throw new Error('the starter thread answered before it was asked');
  const listener = new SystemCallListener(first.listenerFd);
  // The end of this process waits for its threads, and one that starts a program for an answer that nobody would give any more.
  const closeListener = () => listener.close();
  process.once('exit', closeListener);
  return {
    listener,
    gone,
    async start(request) {
      worker.postMessage(request);
      const message = await answer();
      if ('pid' in message) return message.pid;
      throw 'error' in message ? message.error : new Error('the starter thread gave no answer');
    },
    async stop() {
      // First: a child whose exec is held up keeps the thread waiting.
      closeListener();
      process.off('exit', closeListener);
      await worker.terminate();
    },
  };
}

/** Closes descriptors at the end of a block. */
class OpenDescriptors {
  readonly #fds: number[] = [];

  add(fd: number): number {
    this.#fds.push(fd);
    return fd;
  }

  [Symbol.dispose](): void {
    for (const fd of this.#fds) closeSync(fd);
  }
}

const hidden: readonly MountRestriction[] = ['noSetuid', 'noDevices', 'noExec'];

function threadRequest(request: StartRequest, descriptors: OpenDescriptors): ThreadStartRequest {
  const { file, args, logFd, networkNamespace, visible, credentials } = request;
  const networkFd = networkNamespace === undefined ? undefined : descriptors.add(openSync(networkNamespace, 'r'));
  const byPath = new Map(visible.map((each) => [each.path, each]));
  const mounts: AttachedMount[] = [];
  // In this order a directory comes before what lies in it.
  for (const target of [...byPath.keys()].sort()) {
    const isWritable = byPath.get(target)?.isWritable ?? false;
    const fd = descriptors.add(cloneMount(target, isWritable ? hidden : [...hidden, 'readOnly']));
    mounts.push({ fd, target, isDirectory: statSync(target).isDirectory() });
  }
  return { file, args, logFd, networkFd, mounts, credentials };
}

/** Whether a process has no program of its own yet: until its first exec it runs this one. */
function isWithoutProgram(pid: number): boolean {
  const own = statSync('/proc/self/exe');
  const its = statSync(`/proc/${pid}/exe`, { throwIfNoEntry: false });
  return its?.dev === own.dev && its.ino === own.ino;
}

/** The process that a thread belongs to; undefined when it has ended. */
function processOf(thread: number): number | undefined {
  try {
    return Number(/^Tgid:\t(\d+)$/m.exec(readFileSync(`/proc/${thread}/status`, 'utf8'))?.[1]);
  } catch {
    return undefined;
  }
}

/** A descriptor, with the file that it was opened on. */
interface OpenedFile {
  fd: number;
  path: string;
  dev: number;
  ino: number;
}

function openForReading(path: string): OpenedFile {
  const fd = openSync(path, 'r');
  const { dev, ino } = fstatSync(fd);
  return { fd, path, dev, ino };
}

/** Throws when the descriptor has become that of another file, as it does when somebody closes what is not theirs: a VMM would get that file. */
function requireUnchanged({ fd, path, dev, ino }: OpenedFile): void {
  const now = fstatSync(fd);
  if (now.dev === dev && now.ino === ino) return;
  throw new AppError(
    'internal',
    `descriptor ${fd}, opened for ${path}, is that of ${readlinkSync(`/proc/self/fd/${fd}`)}`,
  );
}

/** The path that a held call names. */
function readPath(pid: number, address: bigint): string {
  const memory = openSync(`/proc/${pid}/mem`, 'r');
  try {
    const bytes = Buffer.alloc(maxPathBytes);
    const bytesRead = readSync(memory, bytes, 0, bytes.length, address);
    const end = bytes.subarray(0, bytesRead).indexOf(0);
    return bytes.toString('utf8', 0, Math.max(end, 0));
  } finally {
    closeSync(memory);
  }
}
