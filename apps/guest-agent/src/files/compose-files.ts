import type { IncomingMessage, ServerResponse } from 'node:http';
import { basename } from 'node:path';
import { AppError } from '@aviary/core';
import { clientSignal, readJsonObject, sendJson } from '../http-response.ts';
import type { GuestUser } from '../users/user-database.ts';
import type { FileAccess } from './file-access.ts';
import { resolvePath } from './resolve-path.ts';

const maxBodyBytes = 1024 * 1024;

/** Joins files of the guest into one, in order. */
export async function composeFiles(
  files: FileAccess,
  resolveUser: (name: string | undefined) => GuestUser,
  { request, response }: { request: IncomingMessage; response: ServerResponse },
): Promise<void> {
  const { source_paths: sources, destination, username } = await readJsonObject(request, maxBodyBytes);
  if (!isStrings(sources) || sources.length === 0) {
    throw new AppError('invalid_request', '`source_paths` must be a list of at least one path');
  }
  if (typeof destination !== 'string' || destination === '') {
    throw new AppError('invalid_request', '`destination` must be a path');
  }
  const user = resolveUser(typeof username === 'string' && username !== '' ? username : undefined);
  const signal = clientSignal(response);
  const paths = sources.map((source) => resolvePath(source, user));
  const path = resolvePath(destination, user);
  const target = await files.prepareUpload(path, { user, signal });
  try {
    for (const source of paths) {
      const { fd } = await files.openSource(source, { user, signal });
      try {
        const whole = { head: Buffer.alloc(0), from: 0, to: Number.POSITIVE_INFINITY, signal };
        for await (const piece of files.read(fd, whole)) await files.io.write(target.fd, piece, signal);
      } finally {
        await files.io.close(fd);
      }
    }
  } catch (error) {
    await files.discard(target, user);
    throw error;
  }
  await files.commit(target, { user });
  sendJson(response, 200, { name: basename(path), path, type: 'file' });
}

function isStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}
