import { constants } from 'node:fs';
import { copyFile, type FileHandle, open, rm } from 'node:fs/promises';
import { dataExtents, type Extent, punchHole } from '@aviary/linux';
import { nodeErrorCode } from '@aviary/service-kit';
import { readFully } from './content-hash.ts';
import { blockSize } from './mapping.ts';

const bufferBytes = 1024 * 1024;
/** A range up to this length (a run of a diff, mostly) is read without asking the kernel where its holes are. */
const unaskedBytes = 64 * 1024;
const zeroBlock = Buffer.alloc(blockSize);

/** A run of whole blocks within a buffer, all of them zero or none of them. */
export interface BlockRun extends Extent {
  isZero: boolean;
}

/** Divides `data` into runs of zero and of other blocks. A last, shorter block counts as a whole one. */
export function blockRuns(data: Uint8Array): BlockRun[] {
  const runs: BlockRun[] = [];
  let run: BlockRun | undefined;
  for (let offset = 0; offset < data.length; offset += blockSize) {
    const length = Math.min(blockSize, data.length - offset);
    // Most blocks tell by their first byte, which spares the call.
    const isZero = data[offset] === 0 && zeroBlock.compare(data, offset, offset + length, 0, length) === 0;
    if (run?.isZero === isZero) run.length += length;
    else {
      run = { offset, length, isZero };
      runs.push(run);
    }
  }
  return runs;
}

/** Writes all of `data` at `position`. */
export async function writeFully(file: FileHandle, data: Uint8Array, position: number): Promise<void> {
  let done = 0;
  while (done < data.length) {
    const { bytesWritten } = await file.write(data, done, data.length - done, position + done);
    done += bytesWritten;
  }
}

/** Makes a range of a file read as zeros: gives its space back where the file system can, else writes zeros over its data. */
export async function zeroRange(file: FileHandle, { offset, length }: Extent): Promise<void> {
  if (punchHole(file.fd, { offset, length })) return;
  const zeros = Buffer.alloc(Math.min(length, bufferBytes));
  for (const extent of [...dataExtents(file.fd, offset + length, offset)]) {
    const end = extent.offset + extent.length;
    for (let at = extent.offset; at < end; at += zeros.length)
      await writeFully(file, zeros.subarray(0, Math.min(zeros.length, end - at)), at);
  }
}

/** Copies [from, from + length) of one file to `to` in another, which reads as zeros there: holes and zero blocks stay holes. */
export async function copyRange(
  source: FileHandle,
  target: FileHandle,
  { from, to, length }: { from: number; to: number; length: number },
): Promise<void> {
  const buffer = Buffer.allocUnsafe(Math.min(bufferBytes, length));
  const end = from + length;
  for (const extent of dataExtentsFrom(source, from, end)) {
    const extentEnd = extent.offset + extent.length;
    for (let at = extent.offset; at < extentEnd; at += buffer.length) {
      const part = buffer.subarray(0, Math.min(buffer.length, extentEnd - at));
      if (!(await readFully(source, part, at))) throw new Error(`file ended before byte ${extentEnd}`);
      for (const run of blockRuns(part)) {
        if (run.isZero) continue;
        await writeFully(target, part.subarray(run.offset, run.offset + run.length), to + at - from + run.offset);
      }
    }
  }
}

function* dataExtentsFrom(source: FileHandle, from: number, end: number): Generator<Extent> {
  if (end - from <= unaskedBytes) yield { offset: from, length: end - from };
  else yield* dataExtents(source.fd, end, from);
}

/** Codes with which a kernel says that these two files cannot share blocks. */
const noReflink = new Set(['ENOTSUP', 'EOPNOTSUPP', 'EXDEV', 'EINVAL', 'ENOTTY', 'ENOSYS', 'EPERM']);

/** Makes `target` share `source`'s blocks. False, with nothing made, where the file system cannot. `target` must not exist. */
export async function reflink(source: string, target: string): Promise<boolean> {
  try {
    await copyFile(source, target, constants.COPYFILE_FICLONE_FORCE | constants.COPYFILE_EXCL);
    return true;
  } catch (error) {
    if (!noReflink.has(nodeErrorCode(error) ?? '')) throw error;
    await rm(target, { force: true });
    return false;
  }
}

/**
 * Copies a file so that it is on stable storage when this resolves: by reflink where the file system can (constant time), else
 * only its data. In this process rather than by `cp --sparse`: on ext4 both take the same time, the disk's, and this one ends with
 * an fsync and leaves nothing on any error. `target` must not exist.
 */
export async function copyDurably(source: string, target: string): Promise<void> {
  const isCloned = await reflink(source, target);
  try {
    const output = await open(target, isCloned ? 'r+' : 'wx', 0o600);
    try {
      if (isCloned) await output.chmod(0o600);
      else {
        const input = await open(source, 'r');
        try {
          const { size } = await input.stat();
          await output.truncate(size);
          await copyRange(input, output, { from: 0, to: 0, length: size });
        } finally {
          await input.close();
        }
      }
      await output.sync();
    } finally {
      await output.close();
    }
  } catch (error) {
    await rm(target, { force: true });
    throw error;
  }
}
