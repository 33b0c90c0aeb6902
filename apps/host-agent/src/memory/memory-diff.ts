import { type FileHandle, open, rm } from 'node:fs/promises';
import { AppError, nilUuid } from '@aviary/core';
import { readFully } from './content-hash.ts';
import { type DiffHeader, decode, tablePlace } from './diff-header.ts';
import { type DiffFacts, DiffWriter, type DirtyRange, type OnRange, type WrittenDiff } from './diff-writer.ts';
import { blockSize, fullMapping, type Mapping, type MappingEntry, merge, zeroMapping } from './mapping.ts';
import { copyRange, reflink, zeroRange } from './sparse-copy.ts';

async function withNewFile<T>(target: string, work: (file: FileHandle) => Promise<T>): Promise<T> {
  const file = await open(target, 'wx+', 0o600);
  try {
    return await work(file);
  } catch (error) {
    await rm(target, { force: true });
    throw error;
  } finally {
    await file.close();
  }
}

/**
 * Writes a diff at `target` (which must not exist) from the ranges that `produce` hands over, e.g.
 * `(onRange) => microVm.dirtyPages(onRange)`. It is on stable storage when this resolves; on any error nothing is left.
 */
export function writeDiff(
  target: string,
  facts: DiffFacts,
  produce: (onRange: OnRange) => Promise<void>,
): Promise<WrittenDiff> {
  return withNewFile(target, async (file) => {
    await using writer = new DiffWriter(file, facts);
    await produce((range) => writer.write(range));
    return await writer.finish();
  });
}

/** Reads and checks a diff's header and table. Throws `integrity`. */
export async function readDiff(diffPath: string): Promise<DiffHeader> {
  const file = await open(diffPath, 'r');
  try {
    return await readOpenDiff(file);
  } finally {
    await file.close();
  }
}

async function readOpenDiff(file: FileHandle): Promise<DiffHeader> {
  const { size } = await file.stat();
  const header = Buffer.alloc(Math.min(size, blockSize));
  await readFully(file, header, 0);
  const place = tablePlace(header, size);
  const table = Buffer.alloc(place.bytes);
  const isWhole = await readFully(file, table, place.offset);
  return decode(header, isWhole ? table : table.subarray(0, 0), size);
}

/** Read or copied at once. */
const copyBytes = 1024 * 1024;

/** Where the memory files that a mapping names are. */
export type StorageLocator = (storageId: string) => string;

/** Opens each memory file once, and closes all. */
class OpenStorages implements AsyncDisposable {
  readonly #locate: StorageLocator;
  readonly #files = new Map<string, FileHandle>();

  constructor(locate: StorageLocator) {
    this.#locate = locate;
  }

  async get(storageId: string): Promise<FileHandle> {
    const opened = this.#files.get(storageId);
    if (opened) return opened;
    const file = await open(this.#locate(storageId), 'r');
    this.#files.set(storageId, file);
    return file;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#files.values()].map((file) => file.close()));
  }
}

/**
 * What memory holds that the image `baseId` does not: every range that `mapping` takes from elsewhere, zeros included, in order, in
 * pieces of at most 1 MiB. Each is valid until the next is asked for. Neighbours in a packed file are read at once.
 */
export async function* rangesBeside(
  baseId: string,
  mapping: Mapping,
  locate: StorageLocator,
): AsyncGenerator<DirtyRange> {
  await using storages = new OpenStorages(locate);
  const buffer = Buffer.allocUnsafe(copyBytes);
  for (const batch of packedBatches(mapping.filter(({ generationId }) => generationId !== baseId))) {
    const [{ generationId, storageOffset }] = batch;
    const bytes = batch.reduce((sum, { length }) => sum + length, 0);
    const data = buffer.subarray(0, bytes);
    if (generationId === nilUuid) data.fill(0);
    else if (!(await readFully(await storages.get(generationId), data, storageOffset)))
      throw new AppError('integrity', `a memory file ends before byte ${storageOffset + bytes}`);
    let done = 0;
    for (const { offset, length } of batch) {
      yield { offset, data: data.subarray(done, done + length) };
      done += length;
    }
  }
}

/** Groups entries that lie one after the other in one file, each group of at most {@link copyBytes}. */
function* packedBatches(entries: Mapping): Generator<[MappingEntry, ...MappingEntry[]]> {
  let batch: [MappingEntry, ...MappingEntry[]] | undefined;
  let bytes = 0;
  for (const entry of entries.flatMap(cutToSize)) {
    const first = batch?.[0];
    const isNext =
      first?.generationId === entry.generationId &&
      bytes + entry.length <= copyBytes &&
      (entry.generationId === nilUuid || first.storageOffset + bytes === entry.storageOffset);
    if (batch && isNext) {
      batch.push(entry);
      bytes += entry.length;
    } else {
      if (batch) yield batch;
      batch = [entry];
      bytes = entry.length;
    }
  }
  if (batch) yield batch;
}

function cutToSize({ offset, length, generationId, storageOffset }: MappingEntry): MappingEntry[] {
  const pieces: MappingEntry[] = [];
  for (let done = 0; done < length; done += copyBytes) {
    pieces.push({
      offset: offset + done,
      length: Math.min(copyBytes, length - done),
      generationId,
      storageOffset: generationId === nilUuid ? 0 : storageOffset + done,
    });
  }
  return pieces;
}

/** The storage that could be cloned as the start of a full image: one of the memory's size whose entries are all in their own place. */
async function cloneable(mapping: Mapping, memoryBytes: number, storages: OpenStorages): Promise<string | undefined> {
  const inPlace = new Map<string, boolean>();
  for (const { generationId, offset, storageOffset } of mapping)
    if (generationId !== nilUuid)
      inPlace.set(generationId, offset === storageOffset && inPlace.get(generationId) !== false);
  for (const [storageId, isInPlace] of inPlace)
    if (isInPlace && (await (await storages.get(storageId)).stat()).size === memoryBytes) return storageId;
  return undefined;
}

/**
 * Writes the full, sparse image that a total mapping describes at `target` (which must not exist), durably; on any error nothing
 * is left. Where the file system clones, the base image is cloned and only what differs from it is written.
 */
export async function materialise(
  target: string,
  { mapping, memoryBytes }: { mapping: Mapping; memoryBytes: number },
  locate: StorageLocator,
): Promise<void> {
  await using storages = new OpenStorages(locate);
  const base = await cloneable(mapping, memoryBytes, storages);
  const isCloned = base !== undefined && (await reflink(locate(base), target));
  const image = await open(target, isCloned ? 'r+' : 'wx+', 0o600);
  try {
    if (isCloned) await image.chmod(0o600);
    else await image.truncate(memoryBytes);
    for (const { generationId, offset, length, storageOffset } of mapping) {
      if (isCloned && generationId === base) continue;
      if (isCloned) await zeroRange(image, { offset, length });
      if (generationId === nilUuid) continue;
      await copyRange(await storages.get(generationId), image, { from: storageOffset, to: offset, length });
    }
    await image.sync();
  } catch (error) {
    await rm(target, { force: true });
    throw error;
  } finally {
    await image.close();
  }
}

/**
 * Writes at `target` one diff that stands for a whole chain: what `mapping` takes from `keepId` stays there, all other blocks are
 * packed into the new file, zero ones as zeros. Without `keepId` the result needs no other file.
 */
export async function mergeDiffs(
  target: string,
  diff: { id: string; keepId?: string; generationNumber: number; memoryBytes: number; mapping: Mapping },
  locate: StorageLocator,
): Promise<WrittenDiff> {
  const { id, keepId, generationNumber, memoryBytes, mapping } = diff;
  await using storages = new OpenStorages(locate);
  // Every range not kept is written below, so what lies under it is never seen.
  const baseMapping =
    keepId === undefined
      ? zeroMapping(memoryBytes)
      : merge(
          fullMapping(nilUuid, memoryBytes),
          mapping.filter((entry) => entry.generationId === keepId),
        );
  const facts = { id, baseId: keepId ?? nilUuid, generationNumber, memoryBytes, baseMapping };
  return await withNewFile(target, async (file) => {
    await using writer = new DiffWriter(file, facts);
    for (const { generationId, offset, length, storageOffset } of mapping) {
      if (generationId === keepId) continue;
      if (generationId === nilUuid) {
        writer.zero({ offset, length });
        continue;
      }
      const storage = await storages.get(generationId);
      const buffer = Buffer.allocUnsafe(Math.min(copyBytes, length));
      for (let done = 0; done < length; done += buffer.length) {
        const data = buffer.subarray(0, Math.min(buffer.length, length - done));
        if (!(await readFully(storage, data, storageOffset + done)))
          throw new AppError(
            'integrity',
            `cannot merge memory diffs: a memory file ends before byte ${storageOffset + length}`,
          );
        await writer.write({ offset: offset + done, data });
      }
    }
    return await writer.finish();
  });
}
