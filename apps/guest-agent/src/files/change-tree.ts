import { lstatSync, renameSync, rmSync } from 'node:fs';
import { makeParents } from './make-directories.ts';
import { failedTo, type OperationContext } from './operation-context.ts';

/** Gives a file or directory another name, the parents of which are made. What has that name is replaced as rename(2) does. */
export function movePath(
  context: OperationContext,
  { source, destination }: { source: string; destination: string },
): void {
  try {
    lstatSync(source);
    makeParents(context, destination);
    renameSync(source, destination);
  } catch (error) {
    throw failedTo('move', source, error);
  }
}

/** Removes a file, or a directory with all in it. Nothing there is no error. Goes on to its end when the client leaves. */
export function removePath(_context: OperationContext, { path }: { path: string }): void {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch (error) {
    throw failedTo('remove', path, error);
  }
}
