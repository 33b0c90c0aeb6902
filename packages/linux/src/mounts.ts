import { closeSync } from 'node:fs';
import { checkedCall, libcFunction } from './libc.ts';

// The same numbers on x86-64 and arm64: they come from the shared table since Linux 5.1. pivot_root is older.
const sysOpenTree = 428;
const sysMoveMount = 429;
const sysMountSetattr = 442;
const sysPivotRoot: Partial<Record<NodeJS.Architecture, number>> = { x64: 155, arm64: 41 };

const AT_FDCWD = -100;
const AT_EMPTY_PATH = 0x1000;
const OPEN_TREE_CLONE = 1;
const OPEN_TREE_CLOEXEC = 0o2000000;
const MOVE_MOUNT_F_EMPTY_PATH = 0x04;
const MNT_DETACH = 2;
const S_IFREG = 0o100000;
/** `<sys/mount.h>`. */
const MS = {
  rdonly: 1,
  nosuid: 2,
  nodev: 4,
  noexec: 8,
  remount: 32,
  bind: 4096,
  rec: 16384,
  private: 1 << 18,
} as const;
/** `<linux/mount.h>`: for mount_setattr(2), which has its own numbers. */
const MOUNT_ATTR = { readOnly: 1, noSetuid: 2, noDevices: 4, noExec: 8 } as const;

export type MountRestriction = keyof typeof MOUNT_ATTR;

/**
 * A copy of the mount at `path`, of that file or directory alone, which is not part of any tree yet: a descriptor for {@link attachMount},
 * also in another mount namespace. Closing it drops a copy that was not attached. See open_tree(2). Needs Linux 5.12.
 */
export function cloneMount(path: string, restrictions: readonly MountRestriction[]): number {
  const openTree = libcFunction('long syscall(long, int, const char*, unsigned int)');
  const flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
  const fd = checkedCall('open_tree', () => openTree(sysOpenTree, AT_FDCWD, path, flags), path);
  const attributes = Buffer.alloc(32);
  attributes.writeBigUInt64LE(BigInt(restrictions.reduce<number>((sum, each) => sum | MOUNT_ATTR[each], 0)), 0);
  const setAttributes = libcFunction('long syscall(long, int, const char*, unsigned int, void*, size_t)');
  const call = () => setAttributes(sysMountSetattr, fd, '', AT_EMPTY_PATH, attributes, attributes.length);
  try {
    checkedCall('mount_setattr', call, path);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Puts a copy that {@link cloneMount} made over the file or directory `target`. */
export function attachMount(fd: number, target: string): void {
  const moveMount = libcFunction('long syscall(long, int, const char*, int, const char*, unsigned int)');
  checkedCall('move_mount', () => moveMount(sysMoveMount, fd, '', AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH), target);
}

/** Shows everything mounted at and below `source` at `target` as well. */
export function bindTree(source: string, target: string): void {
  mount(source, target, null, MS.bind | MS.rec);
}

/** An empty file system in memory at `target`, on which nothing can be run and no device opened. */
export function mountMemory(target: string, options: string): void {
  const flags = MS.nosuid | MS.nodev | MS.noexec;
  checkedCall('mount', () => mountFunction()('tmpfs', target, 'tmpfs', flags, options), target);
}

/**
 * Makes an empty file without opening it. A descriptor for writing would be copied into every process that another thread starts meanwhile, and
 * until that has its program, the file system cannot be made read-only.
 */
export function createFile(path: string): void {
  const mknod = libcFunction('int mknod(const char*, unsigned int, unsigned long)');
  checkedCall('mknod', () => mknod(path, S_IFREG | 0o644, 0), path);
}

/** Makes what {@link mountMemory} mounted at `target` read-only here. */
export function protectMemory(target: string): void {
  mount(null, target, null, MS.remount | MS.bind | MS.rdonly | MS.nosuid | MS.nodev | MS.noexec);
}

/** Keeps what is mounted from now on in this mount namespace, and what others mount out of it. */
export function keepMountsPrivate(): void {
  mount(null, '/', null, MS.rec | MS.private);
}

/**
 * Makes the mount at `directory` the root of the calling thread's mount namespace, which is its own, and removes everything else
 * from that. See pivot_root(2), "pivot_root(".", ".")".
 */
export function enterRoot(directory: string): void {
  const number = sysPivotRoot[process.arch];
  if (number === undefined) throw new Error(`cannot change the root on ${process.arch}: its system call is not known`);
  const chdir = libcFunction('int chdir(const char*)');
  const pivotRoot = libcFunction('long syscall(long, const char*, const char*)');
  const umount = libcFunction('int umount2(const char*, int)');
  // libc's chdir: the thread has a directory of its own, and Node's own call is the main thread's.
  checkedCall('chdir', () => chdir(directory), directory);
  checkedCall('pivot_root', () => pivotRoot(number, '.', '.'), directory);
  checkedCall('umount2', () => umount('.', MNT_DETACH), 'old root');
  checkedCall('chdir', () => chdir('/'), '/');
}

function mount(source: string | null, target: string, type: string | null, flags: number): void {
  checkedCall('mount', () => mountFunction()(source, target, type, flags, null), target);
}

function mountFunction() {
  return libcFunction('int mount(const char*, const char*, const char*, unsigned long, const char*)');
}

/** Which permissions the calling thread's new files do not get. Of all threads that share its root and directory. */
export function setFileModeMask(mask: number): void {
  libcFunction('unsigned int umask(unsigned int)')(mask);
}
