import { getSystemErrorMessage } from 'node:util';
import { AppError, type ErrorCode } from '@aviary/core';

const codes: Readonly<Record<string, { code: ErrorCode; text: string }>> = {
  ENOENT: { code: 'not_found', text: 'no such file or directory' },
  ENOTDIR: { code: 'invalid_request', text: 'a part of the path is not a directory' },
  EISDIR: { code: 'invalid_request', text: 'it is a directory' },
  EEXIST: { code: 'already_exists', text: 'it exists already' },
  ENOTEMPTY: { code: 'invalid_state', text: 'the directory is not empty' },
  EACCES: { code: 'forbidden', text: 'permission denied' },
  EPERM: { code: 'forbidden', text: 'operation not permitted' },
  EROFS: { code: 'forbidden', text: 'the file system is read-only' },
  ENAMETOOLONG: { code: 'invalid_request', text: 'the path is too long' },
  EINVAL: { code: 'invalid_request', text: 'the operation does not apply to it' },
  ELOOP: { code: 'invalid_request', text: 'too many symbolic links' },
  EXDEV: { code: 'invalid_request', text: 'source and destination are on different file systems' },
  EBUSY: { code: 'invalid_state', text: 'it is in use' },
  ETXTBSY: { code: 'invalid_state', text: 'it is a program that runs' },
  ENXIO: { code: 'invalid_request', text: 'it is not a regular file' },
  ENOSPC: { code: 'disk_full', text: 'the disk is full; remove files or use a sandbox with a larger disk' },
  EDQUOT: { code: 'disk_full', text: 'the disk quota is used up' },
  ECANCELED: { code: 'cancelled', text: 'the client left' },
  EPIPE: { code: 'cancelled', text: 'the client left' },
  ECONNRESET: { code: 'cancelled', text: 'the client left' },
  ERR_STREAM_PREMATURE_CLOSE: { code: 'cancelled', text: 'the client left' },
  EMFILE: { code: 'no_capacity', text: 'too many open files' },
  ENFILE: { code: 'no_capacity', text: 'too many open files' },
};

/** A file system error of Node or of a system call as an AppError that names the path; anything else unchanged. */
export function fromNodeError(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof AppError) return error;
  const { code, syscall, path } = error as NodeJS.ErrnoException;
  if (error.name === 'AbortError') return new AppError('cancelled', 'the client left', { cause: error });
  const known = code === undefined ? undefined : codes[code];
  if (!known) return error;
  const object = path === undefined ? '' : ` ${JSON.stringify(path)}`;
  return new AppError(known.code, `cannot ${syscall ?? 'use'}${object}: ${known.text}`, {
    ...(path === undefined ? {} : { details: { path } }),
    cause: error,
  });
}

/**
 * As {@link fromNodeError}, for calls on what a user named: whatever errno such a file answers with (EIO of /proc/PID/mem, EFAULT of a device)
 * is about the file, and no fault of the agent. The kernel's words tell it.
 */
export function fromFileError(error: unknown): unknown {
  const known = fromNodeError(error);
  if (known instanceof AppError || !(known instanceof Error)) return known;
  const { code, errno, syscall, path } = known as NodeJS.ErrnoException;
  if (typeof errno !== 'number' || errno >= 0 || code === undefined) return known;
  const object = path === undefined ? '' : ` ${JSON.stringify(path)}`;
  const message = `cannot ${syscall ?? 'use'}${object}: ${getSystemErrorMessage(errno)} (${code})`;
  return new AppError('invalid_request', message, {
    ...(path === undefined ? {} : { details: { path } }),
    cause: error,
  });
}
