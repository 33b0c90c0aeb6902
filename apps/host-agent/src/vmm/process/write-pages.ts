import { writeSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { AppError } from '@aviary/core';
import type { GuestPages } from '../vmm.ts';
import { findGuestMemory, type Mapping } from './dirty-pages.ts';

/**
 * Overwrites memory that process `pid` maps privately from `file`; the file stays as it is, and the pages count as written by the process. The
 * process must not look at them meanwhile. Writes are many and small, so each is made on this thread, where it takes
 * microseconds; waiting for the next range lets other work in between.
 */
export async function writePages(
  { pid, file }: { pid: number; file: string },
  ranges: AsyncIterable<GuestPages>,
): Promise<void> {
  const mappings = await findGuestMemory({ pid, file });
  await using memory = await open(`/proc/${pid}/mem`, 'r+');
  for await (const { offset, data } of ranges) {
    const address = addressOf(mappings, { offset, length: data.length });
    if (address === undefined) {
      throw new AppError('integrity', `process ${pid} has no guest memory at ${offset} for ${data.length} bytes`);
    }
    for (let done = 0; done < data.length; ) {
      done += writeSync(memory.fd, data, done, data.length - done, address + done);
    }
  }
}

function addressOf(mappings: readonly Mapping[], range: { offset: number; length: number }): number | undefined {
  const mapping = mappings.find(
    ({ start, end, fileOffset }) =>
      fileOffset <= range.offset && range.offset + range.length <= fileOffset + (end - start),
  );
  return mapping && mapping.start + (range.offset - mapping.fileOffset);
}
