import type { GuestUser } from '../users/user-database.ts';

/** What an operation on files has around it. It runs from start to end on one thread, which acts as the user. */
export interface OperationContext {
  user: GuestUser;
  /** Throws `cancelled` once nobody waits for the answer: long work asks now and then. */
  checkCancelled: () => void;
  /** Runs `work` with root's rights. Only on descriptors that the operation opened as the user. */
  asRoot: <T>(work: () => T) => T;
}

/** A system call's error that names what was asked for, whichever path the call itself was about. */
export function failedTo(verb: string, path: string, error: unknown): unknown {
  if (error instanceof Error && 'syscall' in error) return Object.assign(error, { syscall: verb, path });
  return error;
}
