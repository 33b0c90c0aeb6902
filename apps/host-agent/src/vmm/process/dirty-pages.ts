import { readSync } from 'node:fs';
import { type FileHandle, open, readFile, realpath, stat } from 'node:fs/promises';
import { AppError } from '@aviary/core';
import type { GuestPages } from '../vmm.ts';

const pageBytes = 4096;
const entryBytes = 8;
/** Largest piece that is read and handed over at once. */
const maxRangeBytes = 256 * 1024;
/** Looked at in one read: the entries of 64 MiB. */
const pagemapChunkBytes = 128 * 1024;

/** A stretch of a process's address space that maps a file. */
export interface Mapping {
  start: number;
  end: number;
  fileOffset: number;
}

/** Finds where /proc/PID/maps text says that `file` is mapped, in the order of the file. See proc_pid_maps(5). */
export function findMappings(maps: string, file: string): Mapping[] {
  const mappings: Mapping[] = [];
  for (const line of maps.split('\n')) {
    const match = /^([0-9a-f]+)-([0-9a-f]+) \S+ ([0-9a-f]+) \S+ \d+\s+(.*)$/.exec(line);
    if (!match || match[4]?.replaceAll('\\012', '\n') !== file) continue;
    const [start = 0, end = 0, fileOffset = 0] = match.slice(1, 4).map((text) => Number.parseInt(text, 16));
    mappings.push({ start, end, fileOffset });
  }
  return mappings.sort((a, b) => a.fileOffset - b.fileOffset);
}

/** Where process `pid` maps `file`. Throws `integrity` when it does not. */
export async function findGuestMemory({ pid, file }: { pid: number; file: string }): Promise<Mapping[]> {
  const mappings = findMappings(await readFile(`/proc/${pid}/maps`, 'utf8'), await realpath(file));
  if (mappings.length === 0) {
    throw new AppError('integrity', `cannot find guest memory ${file} in process ${pid}: it is not mapped there`);
  }
  return mappings;
}

/**
 * Reports the pages of `file` that process `pid`, which maps it privately, has written since: in order, in runs of at most
 * 256 KiB. A private file mapping keeps the file's own page until the first write, which puts an anonymous page in its place;
 * so a page that is present or swapped and not file-mapped is a written one (Linux Documentation/admin-guide/mm/pagemap).
 * The process must not write meanwhile. `data` is valid until `onRange` returns or resolves.
 */
export async function readDirtyPages(
  { pid, file }: { pid: number; file: string },
  onRange: (range: GuestPages) => void | Promise<void>,
): Promise<void> {
  const mappings = await findGuestMemory({ pid, file });
  const { size } = await stat(file);
  await using pagemap = await open(`/proc/${pid}/pagemap`, 'r');
  await using memory = await open(`/proc/${pid}/mem`, 'r');
  const buffer = Buffer.allocUnsafe(maxRangeBytes);
  for (const mapping of mappings) {
    for await (const runs of dirtyRuns(pagemap, mapping)) {
      for (const run of runs) {
        const offset = mapping.fileOffset + (run.start - mapping.start);
        if (offset + run.length > size) {
          throw new AppError('integrity', `process ${pid} maps more than the ${size} bytes of guest memory ${file}`);
        }
        // Most runs are taken at once: a promise for each would cost more than its page.
        const taken = onRange({ offset, data: readExactly(memory.fd, run, buffer) });
        if (taken) await taken;
      }
    }
  }
}

interface Run {
  start: number;
  length: number;
}

/** All runs of one look at the pagemap after the other, at most as many as that holds pages. */
async function* dirtyRuns(pagemap: FileHandle, { start, end }: Mapping): AsyncGenerator<Run[]> {
  const buffer = Buffer.allocUnsafe(pagemapChunkBytes);
  for (let address = start; address < end; ) {
    const wanted = Math.min(buffer.length, ((end - address) / pageBytes) * entryBytes);
    const { bytesRead } = await pagemap.read(buffer, 0, wanted, (address / pageBytes) * entryBytes);
    if (bytesRead === 0 || bytesRead % entryBytes !== 0) {
      throw new AppError('internal', 'cannot read which guest pages were written: the VMM has ended');
    }
    const runs: Run[] = [];
    let run: Run | undefined;
    for (let at = entryBytes - 1; at < bytesRead; at += entryBytes, address += pageBytes) {
      if (!isWritten(buffer[at] ?? 0)) run = undefined;
      else if (run && run.length < maxRangeBytes) run.length += pageBytes;
      else {
        run = { start: address, length: pageBytes };
        runs.push(run);
      }
    }
    yield runs;
  }
}

/** `flags` is the top byte of a pagemap entry: bit 7 present, bit 6 swapped, bit 5 file-mapped or shared. */
function isWritten(flags: number): boolean {
  return (flags & 0xc0) !== 0 && (flags & 0x20) === 0;
}

/** On this thread: most runs are a page or two, which is read in microseconds, while a hand-over to another thread takes a hundred. */
function readExactly(memoryFd: number, { start, length }: Run, buffer: Buffer): Buffer {
  const data = buffer.subarray(0, length);
  for (let done = 0; done < length; ) {
    const bytesRead = readSync(memoryFd, data, done, length - done, start + done);
    if (bytesRead === 0) throw new AppError('internal', 'cannot read guest memory: the VMM has ended');
    done += bytesRead;
  }
  return data;
}
