import type { IncomingMessage, ServerResponse } from 'node:http';
import { basename } from 'node:path';
import type { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { AppError } from '@aviary/core';
import { clientSignal, sendJson } from '../http-response.ts';
import type { GuestUser } from '../users/user-database.ts';
import type { FileAccess } from './file-access.ts';
import { resolvePath } from './resolve-path.ts';
import { readUploadForm } from './upload-form.ts';
import type { UploadTarget } from './upload-target.ts';

const gunzipChunkBytes = 256 * 1024;

/** One file of an upload's answer. */
interface WrittenFile {
  name: string;
  path: string;
  type: 'file';
  metadata?: Record<string, string>;
}

/**
 * Takes an upload of any size: a raw body to `path`, or a form whose `file` parts go to `path` (a single one) or to their
 * own file names. Nothing is in its place before all of the request is there. Answers what was written.
 */
export async function uploadFiles(
  files: FileAccess,
  { path, user }: { path: string | undefined; user: GuestUser },
  { request, response }: { request: IncomingMessage; response: ServerResponse },
): Promise<void> {
  const metadata = uploadMetadata(request);
  const signal = clientSignal(response);
  const received: UploadTarget[] = [];
  const receive = async (target: string, content: AsyncIterable<Buffer>) => {
    const upload = await files.prepareUpload(resolvePath(target, user), { user, signal });
    received.push(upload);
    for await (const piece of content) await files.io.write(upload.fd, piece, signal);
  };
  const written: WrittenFile[] = [];
  try {
    const body = decodedBody(request);
    if (/^multipart\/form-data\b/i.test(request.headers['content-type'] ?? '')) {
      await readUploadForm({ request, body, path, receive });
    } else if (path === undefined) throw new AppError('invalid_request', 'name the file in the `path` parameter');
    else await receive(path, body);
    for (let upload = received[0]; upload; upload = received[0]) {
      received.shift();
      await files.commit(upload, { user, metadata });
      const extra = Object.keys(metadata).length > 0 ? { metadata } : {};
      written.push({ name: basename(upload.path), path: upload.path, type: 'file', ...extra });
    }
  } catch (error) {
    throw isGzipError(error) ? new AppError('invalid_request', 'the body is not whole gzip', { cause: error }) : error;
  } finally {
    for (const upload of received) await files.discard(upload, user);
  }
  sendJson(response, 200, written);
}

function decodedBody(request: IncomingMessage): Readable {
  const encoding = (request.headers['content-encoding'] ?? 'identity').trim().toLowerCase();
  if (encoding === 'identity' || encoding === '') return request;
  if (encoding !== 'gzip') {
    throw new AppError('unsupported_media_type', `an upload is sent as it is or as gzip, not ${encoding}`);
  }
  const unzip = createGunzip({ chunkSize: gunzipChunkBytes });
  request.on('error', (error) => unzip.destroy(error));
  unzip.on('error', () => request.unpipe(unzip));
  return request.pipe(unzip);
}

/** Codes of zlib: `Z_DATA_ERROR`, `Z_BUF_ERROR` when it ends too early. */
function isGzipError(error: unknown): boolean {
  return error instanceof Error && String((error as NodeJS.ErrnoException).code).startsWith('Z_');
}

function uploadMetadata(request: IncomingMessage): Record<string, string> {
  const prefix = 'x-metadata-';
  const entries = Object.entries(request.headers)
    .filter((entry): entry is [string, string] => entry[0].startsWith(prefix) && typeof entry[1] === 'string')
    .map(([name, value]) => [name.slice(prefix.length), value] as const)
    .filter(([name]) => name !== '');
  return Object.fromEntries(entries);
}
