import { createReadStream } from 'node:fs';
import { type FileHandle, open, stat, unlink } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { basename, dirname } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createGzip } from 'node:zlib';
import { AppError } from '@aviary/core';
import { setExtendedAttribute } from '@aviary/linux';
import { readJsonObject, sendJson } from '../http-response.ts';
import type { GuestUser } from '../users/user-database.ts';
import { parseRange } from './byte-range.ts';
import { metadataPrefix } from './entry-info.ts';
import { giveTo, makeDirectories } from './make-directories.ts';
import { resolvePath } from './resolve-path.ts';

const chunkBytes = 256 * 1024;
const maxComposeBytes = 1024 * 1024;
const maxMultipartFiles = 10_000;

/** One file of an upload's answer. */
interface WrittenFile {
  name: string;
  path: string;
  type: 'file';
  metadata?: Record<string, string>;
}

/** Streams a file to the client: whole, a byte range, or gzipped when the client takes nothing else. */
export async function downloadFile(
  { path, user }: { path: string; user: GuestUser },
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const absolute = resolvePath(path, user);
  const stats = await stat(absolute);
  if (!stats.isFile()) {
    throw new AppError('invalid_request', `cannot read ${JSON.stringify(absolute)}: it is not a regular file`);
  }
  const headers: Record<string, string | number> = {
    'content-type': 'application/octet-stream',
    'accept-ranges': 'bytes',
    'last-modified': stats.mtime.toUTCString(),
    'content-disposition': `inline; filename*=UTF-8''${encodeURIComponent(basename(absolute))}`,
    vary: 'Accept-Encoding',
  };
  const range = parseRange(request.headers.range, stats.size);
  if (range === 'unsatisfiable') {
    response.writeHead(416, { ...headers, 'content-range': `bytes */${stats.size}`, 'content-length': 0 });
    response.end();
    return;
  }
  // Clients list gzip by habit, beside others. Compressing costs the sandbox's CPU: only for those that ask for it alone.
  if (request.headers['accept-encoding']?.trim() === 'gzip' && !range && stats.size > 0) {
    response.writeHead(200, { ...headers, 'content-encoding': 'gzip' });
    if (request.method === 'HEAD') response.end();
    else await pipeline(createReadStream(absolute, { highWaterMark: chunkBytes }), createGzip({ level: 1 }), response);
    return;
  }
  const start = range?.start ?? 0;
  const end = range?.end ?? stats.size - 1;
  if (range) headers['content-range'] = `bytes ${start}-${end}/${stats.size}`;
  response.writeHead(range ? 206 : 200, { ...headers, 'content-length': end - start + 1 });
  if (request.method === 'HEAD' || end < start) {
    response.end();
    return;
  }
  await pipeline(createReadStream(absolute, { start, end, highWaterMark: chunkBytes }), response);
}

/**
 * Takes an upload of any size: a raw body to `path`, or a form whose `file` parts go to `path` (a single one) or to their
 * own file names. Answers what was written.
 */
export async function uploadFiles(
  { path, user }: { path: string | undefined; user: GuestUser },
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const metadata = uploadMetadata(request);
  const body = decodedBody(request);
  const contentType = request.headers['content-type'] ?? '';
  const written: WrittenFile[] = [];
  const write = async (target: string, source: Readable) => {
    const absolute = resolvePath(target, user);
    await writeFileFrom(source, absolute, user);
    for (const [name, value] of Object.entries(metadata)) setExtendedAttribute(absolute, metadataPrefix + name, value);
    const extra = Object.keys(metadata).length > 0 ? { metadata } : {};
    written.push({ name: basename(absolute), path: absolute, type: 'file', ...extra });
  };
  if (/^multipart\/form-data\b/i.test(contentType)) await readForm({ body, request, path, write });
  else if (path === undefined) throw new AppError('invalid_request', 'name the file in the `path` parameter');
  else await write(path, body);
  sendJson(response, 200, written);
}

/** Joins files of the guest into one, in order. */
export async function composeFiles(
  resolveUser: (name: string | undefined) => GuestUser,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { source_paths: sources, destination, username } = await readJsonObject(request, maxComposeBytes);
  if (!isStrings(sources) || sources.length === 0) {
    throw new AppError('invalid_request', '`source_paths` must be a list of at least one path');
  }
  if (typeof destination !== 'string' || destination === '') {
    throw new AppError('invalid_request', '`destination` must be a path');
  }
  const user = resolveUser(typeof username === 'string' && username !== '' ? username : undefined);
  const target = resolvePath(destination, user);
  const paths = sources.map((source) => resolvePath(source, user));
  if (paths.includes(target)) throw new AppError('invalid_request', 'the destination cannot be one of the sources');
  for (const path of paths) {
    if (!(await stat(path)).isFile()) {
      throw new AppError('invalid_request', `cannot read ${JSON.stringify(path)}: it is not a regular file`);
    }
  }
  await writeFileFrom(Readable.from(readAll(paths), { objectMode: false }), target, user);
  sendJson(response, 200, { name: basename(target), path: target, type: 'file' });
}

async function* readAll(paths: readonly string[]): AsyncGenerator<Buffer> {
  for (const path of paths) yield* createReadStream(path, { highWaterMark: chunkBytes }) as AsyncIterable<Buffer>;
}

/** Writes a stream to a file, the user's with its new parents. A file that did not exist before goes again when this fails. */
async function writeFileFrom(source: Readable, path: string, user: GuestUser): Promise<void> {
  const present = await stat(path).catch(() => undefined);
  if (present?.isDirectory()) {
    throw new AppError('invalid_request', `cannot write ${JSON.stringify(path)}: it is a directory`);
  }
  await makeDirectories(dirname(path), user);
  const file = await open(path, 'w', 0o644);
  try {
    await pipeline(source, fileSink(file));
    await giveTo(path, user);
  } catch (error) {
    if (!present) await unlink(path);
    throw error;
  } finally {
    await file.close();
  }
}

/** Each piece is written before the next is asked for: what is in memory does not grow with the file. */
function fileSink(file: FileHandle): (source: AsyncIterable<Buffer>) => Promise<void> {
  return async (source) => {
    for await (const piece of source) {
      for (let at = 0; at < piece.length; ) at += (await file.write(piece, at)).bytesWritten;
    }
  };
}

async function readForm({
  body,
  request,
  path,
  write,
}: {
  body: Readable;
  request: IncomingMessage;
  path: string | undefined;
  write: (target: string, source: Readable) => Promise<void>;
}): Promise<void> {
  const { Busboy } = await import('@fastify/busboy');
  const form = openForm(Busboy, request);
  let work = Promise.resolve();
  let count = 0;
  form.on('file', (field: string, part: Readable, fileName: string | undefined) => {
    const target = path ?? fileName;
    work = work.then(async () => {
      if (field !== 'file') {
        part.resume();
        return;
      }
      if (!target) throw new AppError('invalid_request', 'a `file` part needs a file name, or the request a `path`');
      if (++count > 1 && path !== undefined) {
        throw new AppError('invalid_request', 'with `path`, an upload holds one file; drop it to use the file names');
      }
      await write(target, part);
    });
    // The form waits for the part to be read: a part nobody will read ends it.
    work.catch((error: Error) => {
      part.resume();
      form.destroy(error);
    });
  });
  try {
    await pipeline(body, form as unknown as NodeJS.WritableStream);
  } catch (error) {
    await work; // the reason why it ended, when a file could not be written
    if (error instanceof AppError || (error as NodeJS.ErrnoException).code !== undefined) throw error;
    throw new AppError('invalid_request', `the form is malformed: ${(error as Error).message}`, { cause: error });
  }
  await work;
  if (count === 0) throw new AppError('invalid_request', 'the form holds no part named `file`');
}

type BusboyConstructor = typeof import('@fastify/busboy').Busboy;

function openForm(Busboy: BusboyConstructor, request: IncomingMessage): InstanceType<BusboyConstructor> {
  const contentType = request.headers['content-type'];
  if (!contentType) throw new AppError('invalid_request', 'the upload has no content type');
  try {
    return new Busboy({
      headers: { ...request.headers, 'content-type': contentType },
      // File names are whole paths here.
      preservePath: true,
      limits: { files: maxMultipartFiles, fileSize: Number.POSITIVE_INFINITY },
    });
  } catch (error) {
    throw new AppError('invalid_request', `the form is malformed: ${(error as Error).message}`, { cause: error });
  }
}

function decodedBody(request: IncomingMessage): Readable {
  const encoding = (request.headers['content-encoding'] ?? 'identity').trim().toLowerCase();
  if (encoding === 'identity' || encoding === '') return request;
  if (encoding !== 'gzip') {
    throw new AppError('unsupported_media_type', `an upload is sent as it is or as gzip, not ${encoding}`);
  }
  const unzip = createGunzip({ chunkSize: chunkBytes });
  request.on('error', (error) => unzip.destroy(error));
  unzip.on('error', () => request.unpipe(unzip));
  return request.pipe(unzip);
}

function uploadMetadata(request: IncomingMessage): Record<string, string> {
  const prefix = 'x-metadata-';
  const entries = Object.entries(request.headers)
    .filter((entry): entry is [string, string] => entry[0].startsWith(prefix) && typeof entry[1] === 'string')
    .map(([name, value]) => [name.slice(prefix.length), value] as const)
    .filter(([name]) => name !== '');
  return Object.fromEntries(entries);
}

function isStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}
