import { AppError, fileLimits } from '@aviary/core';
import type { FastifyRequest } from 'fastify';

/** A form's file, behind the fields that say where it goes. */
export interface UploadForm {
  path: string;
  user: string;
  /**
   * The file's bytes, to be read once. Ends when the whole form is there and in order; throws `invalid_request` when it is malformed, `payload_too_large`
   * when the file has too many bytes: what was read until then is not the file.
   */
  content: AsyncIterable<Uint8Array>;
  /** Reads on to the end of the form, and drops it: a client that still sends does not read its answer. */
  drain: (signal: AbortSignal) => Promise<void>;
}

/** Reads the form of an upload up to its file. Throws `unsupported_media_type`, `invalid_request`. */
export async function readUploadForm(
  request: FastifyRequest,
  { path: queryPath }: { path?: string },
): Promise<UploadForm> {
  if (!request.isMultipart()) {
    throw new AppError('unsupported_media_type', 'send the file as multipart/form-data with the parts path and file');
  }
  const parts = request.parts()[Symbol.asyncIterator]();
  const nextPart = async () => {
    try {
      return await parts.next();
    } catch (error) {
      throw formError(error);
    }
  };
  const fields = new Map<string, string>();
  for (let next = await nextPart(); !next.done; next = await nextPart()) {
    const part = next.value;
    if (part.type === 'field') {
      if (part.fieldname !== 'path' && part.fieldname !== 'user') throw unknownPart(part.fieldname);
      fields.set(part.fieldname, String(part.value));
      continue;
    }
    const { file } = part;
    if (part.fieldname !== 'file') throw unknownPart(part.fieldname);
    const content = async function* () {
      try {
        for await (const chunk of file) yield chunk as Uint8Array;
      } catch (error) {
        throw formError(error);
      }
      if (file.truncated) throw tooLarge();
      // Only now is it known that the form is whole.
      const behind = await nextPart();
      if (!behind.done) throw malformed(`a part ${JSON.stringify(behind.value.fieldname)} follows \`file\``);
    };
    const drain = async (signal: AbortSignal) => {
      if (file.readableEnded || file.destroyed || signal.aborted) return;
      const ended = new Promise<void>((resolve) => {
        file.once('close', resolve).once('end', resolve);
        signal.addEventListener('abort', () => resolve(), { once: true });
      });
      file.on('error', () => undefined).resume();
      await ended;
    };
    return {
      path: checkPath(queryPath ?? fields.get('path')),
      user: fields.get('user') ?? '',
      content: content(),
      drain,
    };
  }
  throw new AppError('invalid_request', 'the part `file` is missing', { details: { field: 'file' } });
}

function checkPath(path: string | undefined): string {
  const problem =
    path === undefined || path === ''
      ? 'is missing; send it before `file`'
      : path.includes('\0')
        ? 'must not hold a NUL byte'
        : Buffer.byteLength(path) > fileLimits.maxPathBytes
          ? `must be at most ${fileLimits.maxPathBytes} bytes`
          : undefined;
  if (problem !== undefined || path === undefined) {
    throw new AppError('invalid_request', `path ${problem}`, { details: { field: 'path' } });
  }
  return path;
}

function unknownPart(name: string): AppError {
  return new AppError(
    'invalid_request',
    `there is no part ${JSON.stringify(name.slice(0, 64))}; send path, user and file`,
    { details: { field: name.slice(0, 64) } },
  );
}

function tooLarge(): AppError {
  return new AppError(
    'payload_too_large',
    `a file may have ${fileLimits.maxUploadBytes} bytes; copy larger ones in parts`,
    { details: { field: 'file' } },
  );
}

/** What the parser throws: of the limits it says so by its status, all else is the form's fault. */
function formError(error: unknown): AppError {
  if (error instanceof AppError) return error;
  const { statusCode, message } = error as { statusCode?: number; message?: string };
  if (statusCode === 413) return malformed('it has more parts than path, user and file');
  return malformed(message ?? 'it cannot be read', error);
}

function malformed(what: string, cause?: unknown): AppError {
  return new AppError(
    'invalid_request',
    `the form is malformed: ${what}; send path, user and then file, closed by the last boundary`,
    { cause },
  );
}
