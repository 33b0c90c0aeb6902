import { type FileHandle, open, stat } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { AppError } from '@aviary/core';
import { nodeErrorCode } from '@aviary/service-kit';

/** Reads a log that grows, and goes on with the next file when a new one was begun under its name. */
export class LogReader implements AsyncDisposable {
  readonly #name: string;
  #handle: FileHandle;
  #at = 0;

  private constructor(name: string, handle: FileHandle) {
    this.#name = name;
    this.#handle = handle;
  }

  /** Throws `not_found` when there is no log, `forbidden` when this user may not read it. */
  static async open(name: string): Promise<LogReader> {
    return new LogReader(name, await openLog(name));
  }

  /** Calls `onLine` with each line that was written since the last call. */
  async readLines(onLine: (line: string) => void): Promise<void> {
    await this.#readRest(onLine);
    const [mine, present] = await Promise.all([this.#handle.stat(), stat(this.#name).catch(() => undefined)]);
    if (present === undefined || mine.ino === present.ino) return;
    const handle = await openLog(this.#name);
    await this.#handle.close();
    this.#handle = handle;
    this.#at = 0;
    await this.#readRest(onLine);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }

  async #readRest(onLine: (line: string) => void): Promise<void> {
    const stream = this.#handle.createReadStream({ start: this.#at, autoClose: false });
    for await (const line of createInterface({ input: stream })) onLine(line);
    this.#at += stream.bytesRead;
  }
}

async function openLog(name: string): Promise<FileHandle> {
  try {
    return await open(name);
  } catch (error) {
    const code = nodeErrorCode(error);
    if (code === 'ENOENT')
      throw new AppError('not_found', `there is no log in ${name}; 'aviary up' writes it, AVIARY_DATA_DIR says where`);
    if (code === 'EACCES') throw new AppError('forbidden', `${name} may be read by root only: try with sudo`);
    throw error;
  }
}
