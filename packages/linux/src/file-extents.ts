import koffi from 'koffi';
import { kernelError } from './kernel-error.ts';

/** What the kernel's fallocate(2) and lseek(2) are asked for; numbers from linux/falloc.h and unistd.h. */
const seekDataWhence = 3;
const seekHoleWhence = 4;
const punchHoleKeepSize = 0x02 | 0x01;

const errno = koffi.os.errno;
const libc = koffi.load('libc.so.6');
const lseek: (fd: number, offset: number, whence: number) => number | bigint = libc.func(
  'int64_t lseek(int fd, int64_t offset, int whence)',
);
const fallocate: (fd: number, mode: number, offset: number, length: number) => number = libc.func(
  'int fallocate(int fd, int mode, int64_t offset, int64_t length)',
);

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
    const start = Number(lseek(fd, position, seekDataWhence));
    if (start < 0) {
      const code = koffi.errno();
      if (code === errno['ENXIO']) return; // nothing but a hole from here to the end
      throw kernelError('find data in a file', code);
    }
    if (start >= size) return;
    const end = Number(lseek(fd, start, seekHoleWhence));
    if (end < 0) throw kernelError('find a hole in a file', koffi.errno());
    yield { offset: start, length: Math.min(end, size) - start };
    position = end;
  }
}

/**
 * Gives a range's space back: it reads as zeros after, the size stays. False when the file system cannot; the caller then
 * writes zeros. Throws with the kernel's error code on anything else.
 */
export function punchHole(fd: number, { offset, length }: Extent): boolean {
  if (fallocate(fd, punchHoleKeepSize, offset, length) === 0) return true;
  const code = koffi.errno();
  if (code === errno['EOPNOTSUPP'] || code === errno['ENOSYS']) return false;
  throw kernelError('punch a hole', code);
}
