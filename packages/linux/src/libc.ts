import { createRequire } from 'node:module';
import { getSystemErrorName } from 'node:util';

type Koffi = typeof import('koffi');
// biome-ignore lint/suspicious/noExplicitAny: foreign functions take what their prototype says; callers in this package wrap each with types.
type ForeignFunction = (...args: any[]) => any;

const loadModule = createRequire(import.meta.url);
let koffiModule: Koffi | undefined;
let libc: ReturnType<Koffi['load']> | undefined;
const functions = new Map<string, ForeignFunction>();

/**
 * Loads the FFI module ahead of its first use. An app whose start is waited for calls this once it serves; as an import,
 * it also tells a bundler that the package is needed.
 */
export async function loadForeignFunctions(): Promise<void> {
  koffiModule ??= (await import('koffi')).default as unknown as Koffi;
}

/** The FFI module, loaded at first use: a process that never makes such a call does not pay for it. */
export function koffi(): Koffi {
  koffiModule ??= loadModule('koffi') as Koffi;
  return koffiModule;
}

/** A libc function by C prototype, bound once. */
export function libcFunction(prototype: string): ForeignFunction {
  let bound = functions.get(prototype);
  if (!bound) {
    // By SONAME: it names the libc this process already runs on, whichever root file system is around it.
    libc ??= koffi().load('libc.so.6');
    bound = libc.func(prototype) as unknown as ForeignFunction;
    functions.set(prototype, bound);
  }
  return bound;
}

/** Makes a call that waits on one of Node's threads for blocking work. What it fails with is lost: errno is a thread's own. */
export async function callOnOtherThread(bound: ForeignFunction, ...args: unknown[]): Promise<void> {
  const { async: start } = bound as unknown as { async: ForeignFunction };
  await new Promise<void>((resolve, reject) => {
    start(...args, (error: unknown) => (error ? reject(error) : resolve()));
  });
}

/** A failed system call, in the shape of Node's own: `code` (`ENOENT`), `errno` (negative), `syscall`. */
export class SystemCallError extends Error {
  override readonly name = 'SystemCallError';
  readonly code: string;
  readonly errno: number;
  readonly syscall: string;

  constructor(syscall: string, errno: number, object = '') {
    const code = errnoName(errno);
    super(`${syscall}${object && ` ${object}`} failed: ${code}`);
    this.code = code;
    this.errno = -errno;
    this.syscall = syscall;
  }
}

function errnoName(errno: number): string {
  return errno > 0 ? getSystemErrorName(-errno) : 'UNKNOWN';
}

/** Calls `name` and returns its result; throws {@link SystemCallError} when it is negative. `object` names what it acted on. */
export function checkedCall(name: string, call: () => number | bigint, object?: string): number {
  const result = Number(call());
  if (result < 0) throw new SystemCallError(name, koffi().errno(), object);
  return result;
}
