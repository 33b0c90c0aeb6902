import { openSync } from 'node:fs';
import { checkedCall, libcFunction } from './libc.ts';

/** `<linux/sched.h>`. */
const flags = { mount: 0x00020000, uts: 0x04000000, ipc: 0x08000000, pid: 0x20000000, network: 0x40000000 } as const;
const CLONE_FS = 0x00000200;

export type NamespaceKind = keyof typeof flags;

const files = {
  mount: 'mnt',
  uts: 'uts',
  ipc: 'ipc',
  pid: 'pid',
  network: 'net',
} as const satisfies Record<NamespaceKind, string>;

/**
 * Gives the calling thread new namespaces; the other threads keep theirs. A new `pid` namespace is that of the children which the thread
 * starts from now on, and the first of them is its init. See unshare(2).
 */
export function unshareNamespaces(kinds: readonly NamespaceKind[]): void {
  const unshare = libcFunction('int unshare(int)');
  // A thread that shares its root and directory with others cannot have mounts of its own.
  const wanted = kinds.reduce<number>((sum, kind) => sum | flags[kind], kinds.includes('mount') ? CLONE_FS : 0);
  checkedCall('unshare', () => unshare(wanted), kinds.join(','));
}

/** The calling thread's own namespace, as a descriptor. Needs /proc. */
export function openOwnNamespace(kind: NamespaceKind): number {
  return openSync(`/proc/thread-self/ns/${files[kind]}`, 'r');
}

/** Moves the calling thread into a namespace; with `pid`, only the children that it starts. A mount namespace brings its root. See setns(2). */
export function enterNamespace(kind: NamespaceKind, fd: number): void {
  const setns = libcFunction('int setns(int, int)');
  checkedCall('setns', () => setns(fd, flags[kind]), kind);
}
