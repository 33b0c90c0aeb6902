import { checkedCall, libcFunction, SystemCallError } from './libc.ts';

const F_SETLEASE = 1024;
const F_RDLCK = 0;
const F_UNLCK = 2;

/**
 * Whether anybody can write an open file's content through a descriptor or a shared mapping that they have: the kernel gives a lease for reading on
 * no such file. `fd` must be open for reading alone, by root or the file's owner, and nobody may be able to open the file for
 * writing at that moment: the kernel would interrupt this process with SIGIO. Throws `EINVAL` where the file system has no leases.
 * See fcntl(2), "Leases".
 */
export function isOpenForWriting(fd: number): boolean {
  const fcntl = libcFunction('int fcntl(int, int, int)');
  try {
    checkedCall('fcntl', () => fcntl(fd, F_SETLEASE, F_RDLCK), 'F_SETLEASE');
  } catch (error) {
    if (error instanceof SystemCallError && error.code === 'EAGAIN') return true;
    throw error;
  }
  checkedCall('fcntl', () => fcntl(fd, F_SETLEASE, F_UNLCK), 'F_SETLEASE');
  return false;
}
