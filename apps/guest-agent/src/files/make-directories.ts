import { mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { AppError } from '@aviary/core';
import { failedTo, type OperationContext } from './operation-context.ts';

const directoryMode = 0o755;

/** Makes a directory and its missing parents, all of them the user's. Throws `already_exists`, `invalid_request` for what else is there. */
export function makeDirectory(_context: OperationContext, { path }: { path: string }): void {
  const present = statSync(path, { throwIfNoEntry: false });
  if (present) {
    const what = present.isDirectory() ? 'directory' : 'file';
    throw new AppError(
      present.isDirectory() ? 'already_exists' : 'invalid_request',
      `cannot create the directory ${JSON.stringify(path)}: a ${what} is there`,
    );
  }
  makeAll(path);
}

/** Makes the directories above `path` that are missing. */
export function makeParents(_context: OperationContext, path: string): void {
  const parent = dirname(path);
  if (!statSync(parent, { throwIfNoEntry: false })) makeAll(parent);
}

function makeAll(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: directoryMode });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST' || code === 'ENOTDIR') {
      throw new AppError(
        'invalid_request',
        `cannot create the directory ${JSON.stringify(path)}: a file is in its way`,
      );
    }
    throw failedTo('create the directory', path, error);
  }
}
