import { checkedCall, libcFunction } from './libc.ts';

/** `RLIMIT_NOFILE` of x86-64 and arm64 alike. */
const openFilesResource = 7;

export interface ResourceLimit {
  soft: number;
  hard: number;
}

/** How many files this process may have open; children inherit it. */
export function openFilesLimit(): ResourceLimit {
  const getrlimit = libcFunction('int getrlimit64(int, void*)');
  const limit = Buffer.alloc(16);
  checkedCall('getrlimit', () => getrlimit(openFilesResource, limit));
  return { soft: Number(limit.readBigUInt64LE(0)), hard: Number(limit.readBigUInt64LE(8)) };
}

/** Sets {@link openFilesLimit}. Raising `hard` needs root. */
export function setOpenFilesLimit({ soft, hard }: ResourceLimit): void {
  const setrlimit = libcFunction('int setrlimit64(int, void*)');
  const limit = Buffer.alloc(16);
  limit.writeBigUInt64LE(BigInt(soft), 0);
  limit.writeBigUInt64LE(BigInt(hard), 8);
  checkedCall('setrlimit', () => setrlimit(openFilesResource, limit));
}
