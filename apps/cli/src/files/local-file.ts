import { openAsBlob, type Stats } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { AppError, type ErrorCode, errorText, fileLimits } from '@aviary/core';

const codes: Readonly<Record<string, { code: ErrorCode; text: string }>> = {
  ENOENT: { code: 'not_found', text: 'no such file or directory' },
  ENOTDIR: { code: 'invalid_request', text: 'a part of the path is not a directory' },
  EISDIR: { code: 'invalid_request', text: 'it is a directory' },
  EEXIST: { code: 'already_exists', text: 'something else has its name' },
  EACCES: { code: 'forbidden', text: 'permission denied' },
  EPERM: { code: 'forbidden', text: 'operation not permitted' },
  EROFS: { code: 'forbidden', text: 'the file system is read-only' },
  ENOSPC: { code: 'disk_full', text: 'the disk is full' },
};

/** An error of this machine's files, in words. */
export function localError(what: string, error: unknown): AppError {
  if (error instanceof AppError) return error;
  const known = codes[String((error as NodeJS.ErrnoException).code)];
  return new AppError(known?.code ?? 'invalid_request', `cannot ${what}: ${known?.text ?? errorText(error)}`, {
    cause: error,
  });
}

/** What is at a path of this machine, links followed. */
export async function lookAt(path: string): Promise<Stats> {
  return await stat(path).catch((error: unknown) => {
    throw localError(`read ${path}`, error);
  });
}

/** The content of a local file, or of what is no regular file, as a pipe that a shell made: that is read to its end. */
export async function readLocal(path: string): Promise<Blob> {
  const stats = await lookAt(path);
  if (stats.isDirectory()) {
    throw new AppError('invalid_request', `cannot read ${path}: it is a directory; copy it with all in it with -r`);
  }
  try {
    if (stats.isFile() && stats.size > 0) {
      checkSize(path, stats.size);
      return await openAsBlob(path);
    }
    await using file = await open(path);
    // A size of 0 is also what the kernel tells of files that it makes up as they are read.
    return await readAll(path, file.createReadStream({ autoClose: false }));
  } catch (error) {
    throw localError(`read ${path}`, error);
  }
}

/** All that a stream gives, as far as one file may go. */
export async function readAll(name: string, stream: AsyncIterable<Uint8Array>): Promise<Blob> {
  const pieces: Uint8Array<ArrayBuffer>[] = [];
  let size = 0;
  for await (const piece of stream) {
    size += piece.length;
    checkSize(name, size);
    pieces.push(new Uint8Array(piece));
  }
  return new Blob(pieces);
}

function checkSize(name: string, size: number): void {
  const { maxUploadBytes } = fileLimits;
  if (size <= maxUploadBytes) return;
  throw new AppError(
    'payload_too_large',
    `cannot copy ${name}: a file may have ${maxUploadBytes} bytes (${maxUploadBytes / 1024 / 1024} MiB); copy larger ones in parts`,
  );
}
