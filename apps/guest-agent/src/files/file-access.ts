import { AppError } from '@aviary/core';
import type { GuestUser } from '../users/user-database.ts';
import { DescriptorIo } from './descriptor-io.ts';
import type { OpenSource } from './open-source.ts';
import { FileThreadPool, type FileThreadPoolOptions } from './thread-pool.ts';
import type { UploadTarget } from './upload-target.ts';

const chunkBytes = 256 * 1024;
/** For work that must come to its end although the client may have left. */
const never = new AbortController().signal;

interface AsUser {
  user: GuestUser;
  signal: AbortSignal;
}

/** The guest's files, as its users may use them: names by {@link FileThreadPool}, content by {@link DescriptorIo}. */
export class FileAccess implements AsyncDisposable {
  readonly threads: FileThreadPool;
  readonly io = new DescriptorIo();

  constructor(options: FileThreadPoolOptions = {}) {
    this.threads = new FileThreadPool(options);
  }

  /** Opens a file for reading; the caller closes it. */
  async openSource(path: string, { user, signal }: AsUser): Promise<OpenSource> {
    const release = ({ fd }: OpenSource) => void this.io.close(fd);
    return await this.threads.run('openSource', { user, input: { path }, signal, release });
  }

  /**
   * The bytes of an open file from one position up to another, which may be infinite: up to its end then. `head` is what was read of its start
   * already. Throws when the file ends before a finite `to`: so many bytes were promised.
   */
  async *read(
    fd: number,
    { head, from, to, signal }: { head: Buffer; from: number; to: number; signal: AbortSignal },
  ): AsyncGenerator<Buffer> {
    let position = from;
    if (position < head.length) {
      const first = head.subarray(position, Math.min(head.length, to));
      yield first;
      position += first.length;
    }
    while (position < to) {
      const buffer = Buffer.allocUnsafe(Math.min(chunkBytes, to - position));
      const count = await this.io.read(fd, buffer, { position, signal });
      if (count > 0) yield buffer.subarray(0, count);
      position += count;
      if (count === buffer.length) continue;
      if (to !== Number.POSITIVE_INFINITY) throw new AppError('conflict', 'the file became shorter while it was read');
      return;
    }
  }

  /** Opens a place for the new content of a file: {@link commit} or {@link discard} follows. */
  async prepareUpload(path: string, { user, signal }: AsUser): Promise<UploadTarget> {
    const release = (target: UploadTarget) => void this.discard(target, user);
    return await this.threads.run('prepareUpload', { user, input: { path }, signal, release });
  }

  /** Puts the whole content in its place. */
  async commit(
    target: UploadTarget,
    { user, metadata = {} }: { user: GuestUser; metadata?: Readonly<Record<string, string>> },
  ): Promise<void> {
    try {
      await this.threads.run('commitUpload', { user, input: { target, metadata }, signal: never });
    } finally {
      await this.io.close(target.fd);
    }
  }

  /** Drops the content of an upload that failed; what was there stays. */
  async discard(target: UploadTarget, user: GuestUser): Promise<void> {
    try {
      if (target.temporary !== undefined) {
        // The failure that brought it here is the one to be told.
        await this.threads.run('discardUpload', { user, input: target, signal: never }).catch(() => undefined);
      }
    } finally {
      await this.io.close(target.fd);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.threads[Symbol.asyncDispose]();
  }
}
