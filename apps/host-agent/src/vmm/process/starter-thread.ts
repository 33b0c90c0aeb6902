import { closeSync, existsSync, mkdirSync, openSync, statSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import path from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import { must } from '@aviary/core';
import {
  attachMount,
  barChildrenFromPrivileges,
  bindTree,
  type Credentials,
  cloneMount,
  createFile,
  enterNamespace,
  enterRoot,
  holdSystemCalls,
  keepMountsPrivate,
  mountMemory,
  openOwnNamespace,
  protectMemory,
  setFileModeMask,
  startProcess,
  unshareNamespaces,
  withThreadCredentials,
} from '@aviary/linux';

/** What a thread of this kind is made with. */
export interface StarterThreadOptions {
  /** Files and directories that every program sees at their own paths, read-only. */
  programFiles: readonly string[];
  /** Devices that every program sees. */
  devices: readonly string[];
  /** An existing directory to mount on, in a namespace that nobody else sees. */
  workDirectory: string;
}

/** One program to start. Descriptors are this process's. */
export interface ThreadStartRequest {
  file: string;
  args: readonly string[];
  logFd: number;
  /** Undefined: a network of its own, with nothing in it. */
  networkFd: number | undefined;
  /** Copies of mounts (see `cloneMount`), each after those of the directories above it. */
  mounts: readonly AttachedMount[];
  credentials: Credentials;
}

export interface AttachedMount {
  fd: number;
  target: string;
  isDirectory: boolean;
}

/** The first message tells the listener; each later one answers a request. */
export type StarterThreadMessage = { listenerFd: number } | { pid: number } | { error: unknown };

/** Where a program's root is put together, in the thread's own. */
const newRoot = '/root-of-next';
const rootOptions = 'mode=755,size=1m,nr_inodes=4k';

/**
 * A thread whose children inherit what it is in: a root in which there is nothing but the program's files, no way to a capability, held system calls
 * (`holdSystemCalls`). For each start it takes on what is that program's own — namespaces, files, identity — and goes back. So nothing
 * has to run between the start of a process and its program, and no such process ever has more than that program may have.
 */
class StarterThread {
  readonly listenerFd: number;
  readonly #ownNamespaces;
  readonly #nullFd = openSync('/dev/null', 'r');
  readonly #topLevel: readonly string[];

  constructor({ programFiles, devices, workDirectory }: StarterThreadOptions) {
    unshareNamespaces(['mount']);
    setFileModeMask(0o022);
    keepMountsPrivate();
    const kinds = ['network', 'ipc', 'uts', 'pid', 'mount'] as const;
    this.#ownNamespaces = kinds.map((kind) => ({ kind, fd: openOwnNamespace(kind) }));
    const mounts = [
      ...programFiles.map((target) => ({ target, fd: cloneMount(target, ['readOnly', 'noSetuid', 'noDevices']) })),
      ...devices.map((target) => ({ target, fd: cloneMount(target, ['noSetuid', 'noExec']) })),
    ].map(({ target, fd }) => ({ target, fd, isDirectory: statSync(target).isDirectory() }));
    mountMemory(workDirectory, rootOptions);
    attachAll(workDirectory, mounts);
    for (const { fd } of mounts) closeSync(fd);
    mkdirSync(path.join(workDirectory, newRoot));
    protectMemory(workDirectory);
    enterRoot(workDirectory);
    this.#topLevel = [...new Set(mounts.map(({ target }) => must(target.split('/')[1], 'paths are absolute')))];
    barChildrenFromPrivileges();
    this.listenerFd = holdSystemCalls();
  }

  /** Starts a program and returns its pid. `goBack` is due after it, whatever came of it. */
  start({ file, args, logFd, networkFd, mounts, credentials }: ThreadStartRequest): number {
    unshareNamespaces(['mount', 'ipc', 'uts', 'pid', ...(networkFd === undefined ? (['network'] as const) : [])]);
    if (networkFd !== undefined) enterNamespace('network', networkFd);
    mountMemory(newRoot, rootOptions);
    for (const name of this.#topLevel) {
      mkdirSync(`${newRoot}/${name}`);
      bindTree(`/${name}`, `${newRoot}/${name}`);
    }
    attachAll(newRoot, mounts);
    protectMemory(newRoot);
    enterRoot(newRoot);
    const descriptors = [this.#nullFd, logFd, logFd];
    // The listener is among the descriptors that it must not keep while its exec is held up: that ends with the last copy of it.
    return withThreadCredentials(credentials, () =>
      startProcess({ file, args, env: {}, cwd: '/', descriptors, isExecHeld: true }),
    );
  }

  goBack(): void {
    for (const { kind, fd } of this.#ownNamespaces) enterNamespace(kind, fd);
  }
}

function attachAll(root: string, mounts: readonly AttachedMount[]): void {
  for (const { fd, target, isDirectory } of mounts) {
    const place = `${root}${target}`;
    // It is there already when a directory above it is one of the mounts.
    if (!existsSync(place)) {
      mkdirSync(isDirectory ? place : path.dirname(place), { recursive: true });
      if (!isDirectory) createFile(place);
    }
    attachMount(fd, place);
  }
}

// While its directory is in sight: without it each agent's thread would compile this file anew, and hold the compiler in memory.
flushCompileCache();
const port = must(parentPort, 'this file is the start of a worker thread');
const thread = new StarterThread(workerData as StarterThreadOptions);
const send = (message: StarterThreadMessage) => port.postMessage(message);
send({ listenerFd: thread.listenerFd });
port.on('message', (request: ThreadStartRequest) => {
  let answer: StarterThreadMessage;
  try {
    answer = { pid: thread.start(request) };
  } catch (error) {
    answer = { error };
  }
  // When that fails, the error ends this thread: it must not start anything from where it is.
  thread.goBack();
  send(answer);
});
