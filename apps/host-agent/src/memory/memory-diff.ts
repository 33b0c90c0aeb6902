import { type FileHandle, open, rm } from 'node:fs/promises';
import { AppError, must, nilUuid } from '@aviary/core';
import type { Extent } from '@aviary/linux';
import { chunkDigest, combineDigests, hashChunkBytes, readFully } from './content-hash.ts';
import { type DiffHeader, decode, encode, maxEntries, tablePlace } from './diff-header.ts';
import { blockSize, fullMapping, type Mapping, type MappingEntry, merge, zeroMapping } from './mapping.ts';
import { blockRuns, copyRange, reflink, writeFully, zeroRange } from './sparse-copy.ts';

/** A run of guest memory that was written, whatever it holds now. */
export interface DirtyRange {
  offset: number;
  data: Buffer;
}

/** What a new diff says about itself; its mapping is `baseMapping` with what is written on top. */
export interface DiffFacts {
  id: string;
  baseId: string;
  generationNumber: number;
  memoryBytes: number;
  baseMapping: Mapping;
}

export interface WrittenDiff {
  /** Size of the file. */
  bytes: number;
  /** As {@link hashFile} computes it. */
  sha256: string;
  /** Bytes of memory that the diff decides about: the stored blocks and the zero ones. */
  dirtyBytes: number;
  mapping: Mapping;
}

/** Chunks that are hashed and written while the next is filled: work for every thread, and a bound on memory. */
const flushingChunks = 4;

/** A chunk's place in memory. It may be filled once what was in it before is hashed and written. */
interface ChunkBuffer {
  bytes: Uint8Array<ArrayBuffer>;
  flushed: Promise<void>;
}

/**
 * Writes one diff file as the ranges come, hashing on the way: when the last range has arrived only the table, the first
 * chunk and an fsync are left. Ranges come in order and do not overlap.
 */
class DiffWriter implements AsyncDisposable {
  readonly #file: FileHandle;
  readonly #facts: DiffFacts;
  readonly #entries: MappingEntry[] = [];
  readonly #digests: Buffer[] = [];
  /** Kept until the end: the header in it is known only then. */
  readonly #firstChunk = new Uint8Array(hashChunkBytes);
  readonly #buffers: ChunkBuffer[] = [];
  #storageOffset = blockSize;
  #memoryOffset = 0;
  #dirtyBytes = 0;

  constructor(file: FileHandle, facts: DiffFacts) {
    this.#file = file;
    this.#facts = facts;
  }

  async write({ offset, data }: DirtyRange): Promise<void> {
    this.#accept({ offset, length: data.length });
    for (const run of blockRuns(data)) {
      if (run.isZero)
        this.#add({ offset: offset + run.offset, length: run.length, generationId: nilUuid, storageOffset: 0 });
      else {
        const storageOffset = this.#storageOffset;
        await this.#store(data.subarray(run.offset, run.offset + run.length));
        this.#add({ offset: offset + run.offset, length: run.length, generationId: this.#facts.id, storageOffset });
      }
    }
  }

  zero(range: Extent): void {
    this.#accept(range);
    this.#add({ ...range, generationId: nilUuid, storageOffset: 0 });
  }

  async finish(): Promise<WrittenDiff> {
    const { id, baseId, generationNumber, memoryBytes, baseMapping } = this.#facts;
    const mapping = merge(baseMapping, this.#entries);
    const { header, table } = encode({ id, baseId, generationNumber, memoryBytes, mapping }, this.#storageOffset);
    await this.#store(table);
    const bytes = this.#storageOffset;
    const tail = bytes % hashChunkBytes;
    if (bytes > hashChunkBytes && tail !== 0) await this.#flush((await this.#buffer()).subarray(0, tail), bytes - tail);
    this.#firstChunk.set(header);
    await this.#flush(this.#firstChunk.subarray(0, Math.min(bytes, hashChunkBytes)), 0);
    await Promise.all(this.#buffers.map(({ flushed }) => flushed));
    await this.#file.sync();
    return { bytes, sha256: combineDigests(bytes, this.#digests), dirtyBytes: this.#dirtyBytes, mapping };
  }

  /** Waits for what is still being written; the file may be closed after it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled(this.#buffers.map(({ flushed }) => flushed));
  }

  #accept({ offset, length }: Extent): void {
    const end = offset + length;
    if (
      offset < this.#memoryOffset ||
      offset % blockSize !== 0 ||
      length % blockSize !== 0 ||
      end > this.#facts.memoryBytes
    )
      throw new Error(`invariant broken: dirty range ${offset}+${length} is out of order, unaligned or outside memory`);
    this.#memoryOffset = end;
    this.#dirtyBytes += length;
  }

  #add(entry: MappingEntry): void {
    const last = this.#entries.at(-1);
    const isContinued =
      last?.generationId === entry.generationId &&
      last.offset + last.length === entry.offset &&
      (entry.generationId === nilUuid || last.storageOffset + last.length === entry.storageOffset);
    if (last && isContinued) last.length += entry.length;
    else if (this.#entries.push(entry) > maxEntries)
      throw new AppError(
        'payload_too_large',
        `guest memory was written in more than ${maxEntries} places: save a full image`,
      );
  }

  async #store(data: Uint8Array): Promise<void> {
    let done = 0;
    while (done < data.length) {
      const within = this.#storageOffset % hashChunkBytes;
      const buffer = await this.#buffer();
      const piece = data.subarray(done, done + hashChunkBytes - within);
      buffer.set(piece, within);
      done += piece.length;
      this.#storageOffset += piece.length;
      const isFull = this.#storageOffset % hashChunkBytes === 0;
      if (isFull && buffer !== this.#firstChunk) this.#startFlush(this.#storageOffset - hashChunkBytes);
    }
  }

  /** Where the chunk at the present offset is filled. Waits for the chunk that was there before when a new one begins. */
  async #buffer(): Promise<Uint8Array<ArrayBuffer>> {
    if (this.#storageOffset < hashChunkBytes) return this.#firstChunk;
    const slot = this.#slotOf(this.#storageOffset);
    const buffer = this.#buffers[slot];
    if (!buffer) {
      this.#buffers[slot] = { bytes: new Uint8Array(hashChunkBytes), flushed: Promise.resolve() };
      return this.#buffers[slot].bytes;
    }
    if (this.#storageOffset % hashChunkBytes === 0) await buffer.flushed;
    return buffer.bytes;
  }

  #startFlush(position: number): void {
    const buffer = must(this.#buffers[this.#slotOf(position)], 'it was filled');
    buffer.flushed = this.#flush(buffer.bytes, position);
    buffer.flushed.catch(() => undefined); // whoever waits for the buffer is told
  }

  #slotOf(position: number): number {
    return Math.floor(position / hashChunkBytes) % flushingChunks;
  }

  async #flush(chunk: Uint8Array<ArrayBuffer>, position: number): Promise<void> {
    const [digest] = await Promise.all([chunkDigest(chunk), writeFully(this.#file, chunk, position)]);
    this.#digests[position / hashChunkBytes] = digest;
  }
}

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
  produce: (onRange: (range: DirtyRange) => Promise<void>) => Promise<void>,
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

/**
 * Redoes a diff on a full image of its base, in place and durably. Doing it again, or after a crash half-way, gives the same image.
 */
export async function applyDiff({ diffPath, imagePath }: { diffPath: string; imagePath: string }): Promise<void> {
  const diff = await open(diffPath, 'r');
  try {
    const { id, mapping, memoryBytes } = await readOpenDiff(diff);
    const image = await open(imagePath, 'r+');
    try {
      const { size } = await image.stat();
      if (size !== memoryBytes)
        throw new AppError(
          'integrity',
          `cannot apply memory diff: the image has ${size} bytes, the diff ${memoryBytes}`,
        );
      for (const entry of mapping) {
        if (entry.generationId === nilUuid) await zeroRange(image, entry);
        else if (entry.generationId === id)
          await copyBlocks(diff, image, { from: entry.storageOffset, to: entry.offset, length: entry.length });
      }
      await image.sync();
    } finally {
      await image.close();
    }
  } finally {
    await diff.close();
  }
}

const copyBytes = 1024 * 1024;

/** Copies bytes as they are: over data, where a zero block must not be skipped. */
async function copyBlocks(
  source: FileHandle,
  target: FileHandle,
  { from, to, length }: { from: number; to: number; length: number },
): Promise<void> {
  const buffer = Buffer.allocUnsafe(Math.min(copyBytes, length));
  for (let done = 0; done < length; done += buffer.length) {
    const part = buffer.subarray(0, Math.min(buffer.length, length - done));
    if (!(await readFully(source, part, from + done)))
      throw new Error(`memory file ended before byte ${from + length}`);
    await writeFully(target, part, to + done);
  }
}

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
