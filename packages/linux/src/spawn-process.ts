import { libcFunction, SystemCallError } from './libc.ts';
import { signalName } from './signal-name.ts';

/** No text in it may hold a NUL byte: the kernel's strings end there. */
export interface SpawnRequest {
  /** Path of the program: nothing is searched. */
  file: string;
  args: readonly string[];
  env: Readonly<Record<string, string>>;
  cwd: string;
  /** What the child has as its descriptors 0, 1, …; `null` is /dev/null. None of the parent's other descriptors that close on exec. */
  descriptors: readonly (number | null)[];
  /**
   * Closes all other descriptors before the exec, which closes most of them only when it succeeds. For a child whose exec may wait for something: meanwhile it
   * must not keep the other end of a pipe open that somebody reads to its end.
   */
  isExecHeld?: boolean;
}

/** How a child ended: its exit code, or the signal that ended it; neither when nobody knows. */
export interface ChildEnd {
  code: number | null;
  signal: NodeJS.Signals | null;
}

/** `<spawn.h>` of glibc. Both of its opaque types are smaller than this, on every architecture. */
const opaqueBytes = 1_024;
const POSIX_SPAWN_SETSIGDEF = 0x04;
const POSIX_SPAWN_SETSIGMASK = 0x08;
const POSIX_SPAWN_SETSID = 0x80;
const signalSetBytes = 128;
const WNOHANG = 1;

/** Children that have not been reaped, with who is told of their end. */
const children = new Map<number, (end: ChildEnd) => void>();
let isWatching = false;

/**
 * Starts a program in a session of its own, with all signals at their defaults, as posix_spawn(3) does: the child shares this process's
 * memory until its exec, where fork(2), which Node's own `spawn` calls, copies the page tables and counts each of their pages. In a microVM
 * that is a megabyte that it no longer shares with its copies. `onEnd` is called once, after this has returned. Returns
 * the child's pid, which nobody else can get before that. Throws {@link SystemCallError} when the program cannot be started.
 * On the main thread.
 */
export function spawnProcess(request: SpawnRequest, onEnd: (end: ChildEnd) => void): number {
  watchChildren();
  const child = startProcess(request);
  children.set(child, onEnd);
  return child;
}

/** As {@link spawnProcess}, on any thread and with that thread's credentials and namespaces. Its pid is to be watched by {@link watchProcess}. */
export function startProcess(request: SpawnRequest): number {
  const actions = Buffer.alloc(opaqueBytes);
  const attributes = Buffer.alloc(opaqueBytes);
  check('int posix_spawn_file_actions_init(void*)', actions);
  try {
    addActions(actions, request);
    check('int posix_spawnattr_init(void*)', attributes);
    const flags = POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID;
    check('int posix_spawnattr_setflags(void*, short)', attributes, flags);
    check('int posix_spawnattr_setsigdefault(void*, void*)', attributes, Buffer.alloc(signalSetBytes, 0xff));
    check('int posix_spawnattr_setsigmask(void*, void*)', attributes, Buffer.alloc(signalSetBytes));
    const pid = Buffer.alloc(4);
    const strings = [
      [request.file, ...request.args, null],
      [...Object.entries(request.env).map(([name, value]) => `${name}=${value}`), null],
    ];
    check(
      'int posix_spawn(void*, const char*, void*, void*, const char**, const char**)',
      ...[pid, request.file, actions, attributes, ...strings],
    );
    return pid.readInt32LE(0);
  } finally {
    check('int posix_spawn_file_actions_destroy(void*)', actions);
  }
}

/** Has the main thread reap a child of this process, which may have ended already; `onEnd` is called once, at the earliest when this has returned. */
export function watchProcess(pid: number, onEnd: (end: ChildEnd) => void): void {
  watchChildren();
  children.set(pid, onEnd);
  setImmediate(reapChildren);
}

function addActions(actions: Buffer, { cwd, descriptors, isExecHeld = false }: SpawnRequest): void {
  check('int posix_spawn_file_actions_addchdir_np(void*, const char*)', actions, cwd);
  for (const [target, source] of descriptors.entries()) {
    if (source === null) {
      const open = 'int posix_spawn_file_actions_addopen(void*, int, const char*, int, unsigned int)';
      check(open, actions, target, '/dev/null', 2, 0);
    } else {
      // A source that is also an earlier target would be overwritten before it is copied.
      if (source < descriptors.length && source < target) throw new Error(`descriptor ${source} is a target itself`);
      check('int posix_spawn_file_actions_adddup2(void*, int, int)', actions, source, target);
    }
  }
  if (isExecHeld) check('int posix_spawn_file_actions_addclosefrom_np(void*, int)', actions, descriptors.length);
}

/** Calls a function that returns an errno. */
function check(prototype: string, ...args: unknown[]): void {
  const errno = Number(libcFunction(prototype)(...args));
  if (errno !== 0) throw new SystemCallError(/(\w+)\(/.exec(prototype)?.[1] ?? prototype, errno);
}

/** Node reaps the children that it started itself, by their pids, and no others. */
function watchChildren(): void {
  if (isWatching) return;
  isWatching = true;
  process.on('SIGCHLD', reapChildren);
}

function reapChildren(): void {
  const waitpid = libcFunction('int waitpid(int, void*, int)');
  const status = Buffer.alloc(4);
  for (const [pid, onEnd] of children) {
    const reaped = Number(waitpid(pid, status, WNOHANG));
    if (reaped === 0) continue;
    children.delete(pid);
    // Nobody else reaps them. Were one gone all the same, its end is told, and nothing of how it came.
    onEnd(reaped < 0 ? { code: null, signal: null } : childEnd(status.readInt32LE(0)));
  }
}

/** What waitpid(2) says in a status. */
function childEnd(status: number): ChildEnd {
  const signal = signalName(status & 0x7f);
  return { code: signal === null ? (status >> 8) & 0xff : null, signal };
}
