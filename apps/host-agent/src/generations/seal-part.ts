import type { BigIntStats } from 'node:fs';
import { open } from 'node:fs/promises';
import { AppError } from '@aviary/core';
import { hashFile } from '../memory/content-hash.ts';
import type { PartFacts } from './manifest.ts';

/** A part that is on stable storage, and what the kernel said about it before it was hashed. */
export interface SealedPart extends PartFacts {
  stat: BigIntStats;
}

/** Flushes a file and hashes it, both at once: the disk is busy with one, the processors with the other. Throws `conflict` when somebody writes it meanwhile. */
export async function sealPart(file: string, signal?: AbortSignal): Promise<SealedPart> {
  const handle = await open(file, 'r');
  try {
    const stat = await handle.stat({ bigint: true });
    const bytes = Number(stat.size);
    const [hashed, synced] = await Promise.allSettled([hashFile(handle, bytes, signal), handle.sync()]);
    if (synced.status === 'rejected') throw synced.reason;
    if (hashed.status === 'rejected') throw hashed.reason;
    const after = await handle.stat({ bigint: true });
    if (after.mtimeNs !== stat.mtimeNs || after.size !== stat.size)
      throw new AppError('conflict', `cannot save ${file}: it was written while it was saved; stop its writer first`);
    return { bytes, sha256: hashed.value, stat };
  } finally {
    await handle.close();
  }
}
