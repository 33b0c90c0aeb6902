import type { FileHandle } from 'node:fs/promises';
import { AppError, must, nilUuid } from '@aviary/core';
import type { Extent } from '@aviary/linux';
import { chunkDigest, combineDigests, hashChunkBytes } from './content-hash.ts';
import { encode, maxEntries } from './diff-header.ts';
import { blockSize, type Mapping, type MappingEntry, merge } from './mapping.ts';
import { type BlockRun, blockRuns, writeFully } from './sparse-copy.ts';

/** A run of guest memory that was written, whatever it holds now. */
export interface DirtyRange {
  offset: number;
  data: Buffer;
}

/** Takes one range. Its data may change again once it returns, or once the promise that it returns is kept. */
export type OnRange = (range: DirtyRange) => void | Promise<void>;

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

/** Chunks that are written while the next is filled; a bound on memory. */
const flushingChunks = 4;

/** A chunk's place in memory. It may be filled once what was in it before is written. */
interface ChunkBuffer {
  bytes: Uint8Array<ArrayBuffer>;
  flushed: Promise<void>;
}

/**
 * Writes one diff file as the ranges come, hashing on the way: when the last range has arrived only the table, the first
 * chunk and an fsync are left. Ranges come in order and do not overlap.
 */
export class DiffWriter implements AsyncDisposable {
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

  /** Takes a range at once where the present chunk has room for it, as for most of a guest's many small ones. */
  write({ offset, data }: DirtyRange): void | Promise<void> {
    this.#accept({ offset, length: data.length });
    const runs = blockRuns(data);
    const [run] = runs;
    if (run && runs.length === 1 && !run.isZero && this.#storeInChunk(data)) {
      const storageOffset = this.#storageOffset - data.length;
      this.#add({ offset, length: data.length, generationId: this.#facts.id, storageOffset });
      return;
    }
    return this.#writeRuns({ offset, data }, runs);
  }

  async #writeRuns({ offset, data }: DirtyRange, runs: readonly BlockRun[]): Promise<void> {
    for (const run of runs) {
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

  /** Puts `data` into the chunk that is being filled. False, with nothing done, when it would fill or begin one. */
  #storeInChunk(data: Uint8Array): boolean {
    const within = this.#storageOffset % hashChunkBytes;
    if (within === 0 || within + data.length >= hashChunkBytes) return false;
    const isFirst = this.#storageOffset < hashChunkBytes;
    const chunk = isFirst ? this.#firstChunk : this.#buffers[this.#slotOf(this.#storageOffset)]?.bytes;
    must(chunk, 'it has begun').set(data, within);
    this.#storageOffset += data.length;
    return true;
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
    const written = writeFully(this.#file, chunk, position);
    this.#digests[position / hashChunkBytes] = chunkDigest(chunk);
    await written;
  }
}
