import fs from 'node:fs';
import { promisify } from 'node:util';
import { AppError } from '@aviary/core';
import { fromFileError } from '../node-error.ts';

const closeDescriptor = promisify(fs.close);

/**
 * Reads and writes open files, some at a time only: each holds a thread of Node's pool, for ever when its file system never answers, and the
 * agent needs that pool for a pause as well.
 */
export class DescriptorIo {
  readonly #maxAtOnce: number;
  readonly #waiting: (() => void)[] = [];
  #active = 0;

  constructor(maxAtOnce = 2) {
    this.#maxAtOnce = maxAtOnce;
  }

  /** Fills `buffer` as far as the file reaches and returns the count. A file that would have the reader wait ends there. */
  async read(
    fd: number,
    buffer: Buffer,
    { position, signal }: { position: number; signal: AbortSignal },
  ): Promise<number> {
    let filled = 0;
    while (filled < buffer.length) {
      const count = await this.#run(signal, () =>
        readOnce(fd, buffer, { offset: filled, position: position + filled }),
      );
      if (count === 0) break;
      filled += count;
    }
    return filled;
  }

  /** Writes all of `bytes` where the file's own position is. */
  async write(fd: number, bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    for (let at = 0; at < bytes.length; ) at += await this.#run(signal, () => writeOnce(fd, bytes, at));
  }

  /** Closes a descriptor. What that may fail with was written before, or is not whole. */
  async close(fd: number): Promise<void> {
    await closeDescriptor(fd).catch(() => undefined);
  }

  async #run<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    if (signal.aborted) throw clientLeft();
    if (this.#active >= this.#maxAtOnce) await this.#wait(signal);
    else this.#active++;
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#active--;
    }
  }

  async #wait(signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const onAbort = () => {
      const place = this.#waiting.indexOf(resolve);
      if (place >= 0) this.#waiting.splice(place, 1);
      reject(clientLeft());
    };
    this.#waiting.push(resolve);
    signal.addEventListener('abort', onAbort, { once: true });
    await promise.finally(() => signal.removeEventListener('abort', onAbort));
  }
}

function readOnce(
  fd: number,
  buffer: Buffer,
  { offset, position }: { offset: number; position: number },
): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.read(fd, buffer, offset, buffer.length - offset, position, (error, count) => {
      if (error && error.code !== 'EAGAIN') reject(fromFileError(error));
      else resolve(error ? 0 : count);
    });
  });
}

function writeOnce(fd: number, bytes: Uint8Array, offset: number): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.write(fd, bytes, offset, bytes.length - offset, null, (error, count) =>
      error ? reject(fromFileError(error)) : resolve(count),
    );
  });
}

function clientLeft(): AppError {
  return new AppError('cancelled', 'the client left');
}
