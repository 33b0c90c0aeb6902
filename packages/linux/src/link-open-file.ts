import { constants } from 'node:fs';
import { checkedCall, libcFunction } from './libc.ts';

const AT_FDCWD = -100;
const AT_SYMLINK_FOLLOW = 0x400;

/** Flags of open(2) for a new file without a name, in the directory that is opened. */
export const openUnnamed = 0o20_000_000 | constants.O_DIRECTORY;

/** Gives a name to an open file, as to one opened with O_TMPFILE. Throws `EEXIST` when something has that name. */
export function linkOpenFile(fd: number, path: string): void {
  const linkat = libcFunction('int linkat(int, const char*, int, const char*, int)');
  checkedCall('linkat', () => linkat(AT_FDCWD, `/proc/self/fd/${fd}`, AT_FDCWD, path, AT_SYMLINK_FOLLOW), path);
}
