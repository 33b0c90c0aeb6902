import { closeSync, openSync } from 'node:fs';
import { checkedCall, koffi, libcFunction } from './libc.ts';

// include/uapi/linux/random.h
const RNDADDENTROPY = 0x40085203;
const RNDRESEEDCRNG = 0x5207;

/** Adds `bytes` to the kernel's pool, credited in full, and reseeds its generator at once. Needs CAP_SYS_ADMIN. */
export function addKernelEntropy(bytes: Uint8Array): void {
  const pool = Buffer.alloc(8 + bytes.length);
  pool.writeInt32LE(bytes.length * 8, 0);
  pool.writeInt32LE(bytes.length, 4);
  pool.set(bytes, 8);
  const ioctl = libcFunction('int ioctl(int, unsigned long, void*)');
  const fd = openSync('/dev/urandom', 'r+');
  try {
    checkedCall('ioctl', () => ioctl(fd, RNDADDENTROPY, pool), 'RNDADDENTROPY');
    checkedCall('ioctl', () => ioctl(fd, RNDRESEEDCRNG, null), 'RNDRESEEDCRNG');
  } finally {
    closeSync(fd);
  }
}

/**
 * Mixes `bytes` into this process's own OpenSSL generator, which a memory snapshot copies as it is: without this, clones
 * of one snapshot draw the same numbers from `node:crypto`. Returns false when the Node binary does not export OpenSSL.
 */
export function reseedNodeCrypto(bytes: Uint8Array): boolean {
  try {
    const add = koffi().load(null).func('void RAND_add(const void*, int, double)');
    add(bytes, bytes.length, bytes.length);
    return true;
  } catch {
    return false; // a Node linked to a private OpenSSL; callers that need fresh numbers read the kernel's generator
  }
}
