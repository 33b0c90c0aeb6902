import type { ErrorCode } from '@aviary/core';
import type { GuestUser } from '../users/user-database.ts';
import type { FileOperationName } from './file-operations.ts';

/** What a file thread is asked. */
export interface ThreadJob {
  operation: FileOperationName;
  user: GuestUser;
  input: unknown;
  /** One number, not 0 once nobody waits for the answer any more. */
  cancelled: Int32Array<SharedArrayBuffer>;
}

/** What it answers, once for each job. */
export type ThreadAnswer =
  | { output: unknown }
  | { error: { code: ErrorCode | undefined; message: string; details: Record<string, unknown> } };
