import type { IncomingMessage } from 'node:http';
import type { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { AppError } from '@aviary/core';

/** Each holds a descriptor until the form is whole. */
const maxFiles = 1_000;

export interface UploadForm {
  request: IncomingMessage;
  body: Readable;
  /** Where the form's only file goes; undefined takes the files' own names. */
  path: string | undefined;
  /** Called for one file after the other. */
  receive: (target: string, content: AsyncIterable<Buffer>) => Promise<void>;
}

/** Reads a form with parts named `file`. Resolves when it is whole, last boundary included. Throws `invalid_request` when it is malformed. */
export async function readUploadForm({ request, body, path, receive }: UploadForm): Promise<void> {
  const { Busboy } = await import('@fastify/busboy');
  const form = openForm(Busboy, request);
  const open = new Set<Readable>();
  let failure: Error | undefined;
  const fail = (error: Error) => {
    failure ??= error;
    // A form waits for its parts to be read, and a part for its form to go on: neither ends without the other.
    for (const part of open) part.destroy(error);
    form.destroy(error);
  };
  let work = Promise.resolve();
  let count = 0;
  form.on('file', (field: string, part: Readable, fileName: string | undefined) => {
    open.add(part);
    part.on('close', () => open.delete(part));
    // At once, as the part before this one may not be written yet: an error without a listener would end the agent.
    part.on('error', fail);
    work = work.then(async () => {
      if (failure) return;
      const target = path ?? fileName;
      if (field !== 'file') part.resume();
      else if (!target) fail(invalid('a `file` part needs a file name, or the request a `path`'));
      else if (++count > 1 && path !== undefined) {
        fail(invalid('with `path`, an upload holds one file; drop it to use the file names'));
      } else await receive(target, part).catch(fail);
    });
  });
  form.on('filesLimit', () => fail(invalid(`a form holds at most ${maxFiles} files; send more of them`)));
  await pipeline(body, form).catch(fail);
  await work;
  if (failure) throw asAppError(failure);
  if (count === 0) throw invalid('the form holds no part named `file`');
}

/** What the parser throws has no code; what the connection or the disk does has. */
function asAppError(error: Error): Error {
  if (error instanceof AppError || (error as NodeJS.ErrnoException).code !== undefined) return error;
  return new AppError('invalid_request', `the form is malformed: ${error.message}`, { cause: error });
}

type BusboyConstructor = typeof import('@fastify/busboy').Busboy;

function openForm(Busboy: BusboyConstructor, request: IncomingMessage): Writable {
  const contentType = request.headers['content-type'];
  if (!contentType) throw invalid('the upload has no content type');
  try {
    return new Busboy({
      headers: { ...request.headers, 'content-type': contentType },
      // File names are whole paths here.
      preservePath: true,
      limits: { files: maxFiles, fileSize: Number.POSITIVE_INFINITY },
    });
  } catch (error) {
    throw asAppError(error as Error);
  }
}

function invalid(message: string): AppError {
  return new AppError('invalid_request', message);
}
