import type { IncomingMessage, ServerResponse } from 'node:http';
import { basename } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { clientSignal } from '../http-response.ts';
import type { GuestUser } from '../users/user-database.ts';
import { parseRange } from './byte-range.ts';
import type { FileAccess } from './file-access.ts';
import type { OpenSource } from './open-source.ts';
import { resolvePath } from './resolve-path.ts';

const chunkBytes = 256 * 1024;

/**
 * Sends a file to the client: whole, a byte range, or gzipped when the client takes nothing else. What is sent whole ends where the
 * file does. A length is promised when it was seen, or when a large file's is believable; a client that sends `TE: trailers` reads
 * chunks and gets no promise at all, so that a file that shrinks meanwhile is no broken answer.
 */
export async function downloadFile(
  files: FileAccess,
  { path, user }: { path: string; user: GuestUser },
  { request, response }: { request: IncomingMessage; response: ServerResponse },
): Promise<void> {
  const signal = clientSignal(response);
  const absolute = resolvePath(path, user);
  const source = await files.openSource(absolute, { user, signal });
  try {
    await send(files, { path: absolute, source, signal }, { request, response });
  } finally {
    await files.io.close(source.fd);
  }
}

async function send(
  files: FileAccess,
  { path, source, signal }: { path: string; source: OpenSource; signal: AbortSignal },
  { request, response }: { request: IncomingMessage; response: ServerResponse },
): Promise<void> {
  // The kernel tells sizes of 0 or 4096 for files of /proc and /sys, so nothing is promised of what was not seen.
  const head = Buffer.allocUnsafe(chunkBytes);
  const seen = await files.io.read(source.fd, head, { position: 0, signal });
  const isWhole = seen < chunkBytes;
  const size = isWhole ? seen : Math.max(source.size, seen);
  const headers: Record<string, string | number> = {
    'content-type': 'application/octet-stream',
    'accept-ranges': 'bytes',
    'last-modified': new Date(source.modifiedMs).toUTCString(),
    'content-disposition': `inline; filename*=UTF-8''${encodeURIComponent(basename(path))}`,
    vary: 'Accept-Encoding',
  };
  const range = parseRange(request.headers.range, size);
  if (range === 'unsatisfiable') {
    response.writeHead(416, { ...headers, 'content-range': `bytes */${size}`, 'content-length': 0 });
    response.end();
    return;
  }
  const chunks = (from: number, to: number) => {
    const read = files.read(source.fd, { head: head.subarray(0, seen), from, to, signal });
    return Readable.from(read, { objectMode: false });
  };
  // Clients list gzip by habit, beside others. Compressing costs the sandbox's CPU: only for those that ask for it alone.
  if (request.headers['accept-encoding']?.trim() === 'gzip' && !range && size > 0) {
    response.writeHead(200, { ...headers, 'content-encoding': 'gzip' });
    if (request.method === 'HEAD') response.end();
    else await pipeline(chunks(0, Number.POSITIVE_INFINITY), createGzip({ level: 1 }), response);
    return;
  }
  const isPromised = range !== undefined || isWhole || (source.size > seen && !takesTrailers(request));
  const from = range?.start ?? 0;
  const to = isPromised ? (range?.end ?? size - 1) + 1 : Number.POSITIVE_INFINITY;
  if (range) headers['content-range'] = `bytes ${range.start}-${range.end}/${size}`;
  if (isPromised) headers['content-length'] = to - from;
  response.writeHead(range ? 206 : 200, headers);
  if (request.method === 'HEAD' || to === from) {
    response.end();
    return;
  }
  await pipeline(chunks(from, to), response);
}

/** Such a client reads chunked answers (RFC 9110, 10.1.4): the host's agent, which passes on what comes. */
function takesTrailers(request: IncomingMessage): boolean {
  return /(?:^|,)\s*trailers\b/i.test(String(request.headers['te']));
}
