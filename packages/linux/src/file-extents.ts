import { checkedCall, libcFunction, SystemCallError } from './libc.ts';

/** What the kernel's fallocate(2) and lseek(2) are asked for; numbers from linux/falloc.h and unistd.h. */
const seekDataWhence = 3;
const seekHoleWhence = 4;
const punchHoleKeepSize = 0x02 | 0x01;

function lseek(fd: number, offset: number, whence: number): number {
  return checkedCall('lseek', () =>
    libcFunction('int64_t lseek(int fd, int64_t offset, int whence)')(fd, offset, whence),
  );
}

/** A run of bytes of a file. */
export interface Extent {
  offset: number;
  length: number;
}

/**
 * The parts of an open file's bytes [from, size) that hold data, in order; all else reads as zeros without touching the disk. Moves the
 * descriptor's own offset, so its user must read and write at explicit positions. A file system that cannot tell answers with
 * one extent, the whole file. Throws with the kernel's error code.
 */
export function* dataExtents(fd: number, size: number, from = 0): Generator<Extent> {
  let position = from;
  while (position < size) {
    const start = firstData(fd, position);
    if (start === undefined || start >= size) return;
    const end = lseek(fd, start, seekHoleWhence);
    yield { offset: start, length: Math.min(end, size) - start };
    position = end;
  }
}

/** Where data begins at or after `position`; undefined when nothing but a hole follows. */
function firstData(fd: number, position: number): number | undefined {
  try {
    return lseek(fd, position, seekDataWhence);
  } catch (error) {
    if (error instanceof SystemCallError && error.code === 'ENXIO') return undefined;
    throw error;
  }
}

/**
 * Gives a range's space back: it reads as zeros after, the size stays. False when the file system cannot; the caller then
 * writes zeros. Throws with the kernel's error code on anything else.
 */
export function punchHole(fd: number, { offset, length }: Extent): boolean {
  const fallocate = libcFunction('int fallocate(int fd, int mode, int64_t offset, int64_t length)');
  try {
    checkedCall('fallocate', () => fallocate(fd, punchHoleKeepSize, offset, length));
    return true;
  } catch (error) {
    if (
      error instanceof SystemCallError &&
      (error.code === 'EOPNOTSUPP' || error.code === 'ENOSYS' || error.code === 'ENOTSUP')
    )
      return false;
    throw error;
  }
}
