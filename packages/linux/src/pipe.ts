import { checkedCall, libcFunction } from './libc.ts';

const O_CLOEXEC = 0x8_0000;

/** A pipe(2), both ends close-on-exec. The caller closes them. */
export function createPipe(): { readFd: number; writeFd: number } {
  const pipe2 = libcFunction('int pipe2(void*, int)');
  const ends = Buffer.alloc(8);
  checkedCall('pipe2', () => pipe2(ends, O_CLOEXEC));
  return { readFd: ends.readInt32LE(0), writeFd: ends.readInt32LE(4) };
}
