import { chown, lchown, mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { AppError } from '@aviary/core';
import type { GuestUser } from '../users/user-database.ts';

/** Creates `path` and its missing parents, all of them the user's. Those that exist keep their owner. */
export async function makeDirectories(path: string, user: GuestUser): Promise<void> {
  let firstMade: string | undefined;
  try {
    firstMade = await mkdir(path, { recursive: true, mode: 0o755 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST' || code === 'ENOTDIR') {
      throw new AppError(
        'invalid_request',
        `cannot create the directory ${JSON.stringify(path)}: a file is in its way`,
      );
    }
    throw error;
  }
  if (firstMade === undefined) return;
  for (let made = path; ; made = dirname(made)) {
    await chown(made, user.uid, user.gid);
    if (made === firstMade || made === '/') return;
  }
}

/** Gives a path that was just made to the user. Does not follow a link. */
export async function giveTo(path: string, user: GuestUser): Promise<void> {
  await lchown(path, user.uid, user.gid);
}
