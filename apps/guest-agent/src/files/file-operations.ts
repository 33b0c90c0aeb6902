import { movePath, removePath } from './change-tree.ts';
import { readEntry } from './entry-info.ts';
import { listDirectory } from './list-directory.ts';
import { makeDirectory } from './make-directories.ts';
import { openDirectory } from './open-directory.ts';
import { openSource } from './open-source.ts';
import type { OperationContext } from './operation-context.ts';
import { commitUpload, discardUpload, prepareUpload } from './upload-target.ts';

/** What a file thread can be asked to do. Each is synchronous: the thread's rights are the user's until it is done. */
export const fileOperations = {
  readEntry,
  openSource,
  openDirectory,
  listDirectory,
  makeDirectory,
  movePath,
  removePath,
  prepareUpload,
  commitUpload,
  discardUpload,
} as const satisfies Record<string, (context: OperationContext, input: never) => unknown>;

export type FileOperations = typeof fileOperations;
export type FileOperationName = keyof FileOperations;
export type FileOperationInput<N extends FileOperationName> = Parameters<FileOperations[N]>[1];
export type FileOperationOutput<N extends FileOperationName> = ReturnType<FileOperations[N]>;
