export type OutputStream = 'stdout' | 'stderr' | 'pty';

export interface OutputChunk {
  stream: OutputStream;
  bytes: Buffer;
  /** What came before it, in bytes as they are charged. */
  offset: number;
}

/** Charged per chunk besides its bytes, so that single-byte writes are bounded too. */
const chunkOverheadBytes = 128;

/**
 * The last output of one process, streams in the order they came, within a byte bound. Chunks have consecutive numbers;
 * a reader is only a number, so any count of readers costs nothing and none can hold memory.
 */
export class OutputLog {
  readonly #maxBytes: number;
  readonly #maxChunkBytes: number;
  #chunks: (OutputChunk | undefined)[] = [];
  /** Chunks of the array that are dropped already: shifting one by one would cost a move of the rest each time. */
  #dropped = 0;
  #first = 0;
  #startOffset = 0;
  #endOffset = 0;

  constructor({ maxBytes, maxChunkBytes }: { maxBytes: number; maxChunkBytes: number }) {
    this.#maxBytes = maxBytes;
    this.#maxChunkBytes = maxChunkBytes;
  }

  /** Number of the oldest kept chunk. */
  get start(): number {
    return this.#first;
  }

  /** Number the next chunk will get. */
  get end(): number {
    return this.#first + this.#chunks.length - this.#dropped;
  }

  /** What the log is charged with. */
  get bytes(): number {
    return this.#endOffset - this.#startOffset;
  }

  append(stream: OutputStream, bytes: Buffer): void {
    for (let at = 0; at < bytes.length; at += this.#maxChunkBytes) {
      const part = bytes.subarray(at, at + this.#maxChunkBytes);
      this.#chunks.push({ stream, bytes: part, offset: this.#endOffset });
      this.#endOffset += part.length + chunkOverheadBytes;
    }
    while (this.bytes > this.#maxBytes && this.end - this.#first > 1) this.#dropOldest();
  }

  /** The chunk with that number, undefined when it is dropped or not there yet. */
  at(number: number): OutputChunk | undefined {
    return number < this.#first ? undefined : this.#chunks[number - this.#first + this.#dropped];
  }

  /** Bytes from chunk `number` to the end: how far a reader is behind. */
  bytesSince(number: number): number {
    return this.#endOffset - (this.at(number)?.offset ?? (number < this.#first ? this.#startOffset : this.#endOffset));
  }

  #dropOldest(): void {
    this.#chunks[this.#dropped] = undefined;
    this.#dropped++;
    this.#first++;
    this.#startOffset = this.at(this.#first)?.offset ?? this.#endOffset;
    if (this.#dropped > 1_024 && this.#dropped > this.#chunks.length / 2) {
      this.#chunks = this.#chunks.slice(this.#dropped);
      this.#dropped = 0;
    }
  }
}
