import { AppError } from '@aviary/core';

/** The operating system's name for an error (`ENOENT`, `ENOSPC`, …); undefined for an error of any other kind. */
export function nodeErrorCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return undefined;
  // Node's own codes (`ERR_…`) and ours are told apart by their letters.
  return /^E[A-Z0-9]+$/.test(error.code) ? error.code : undefined;
}

/** `disk_full` for this machine's disk, in the same words wherever it is met. `what`: the verb and the object, e.g. `save state.bin`. */
export function hostDiskFull(what?: string, cause?: unknown): AppError {
  const said = "the host's disk is full; free space on it, or delete sandboxes and snapshots, then try again";
  return new AppError('disk_full', what === undefined ? said : `cannot ${what}: ${said}`, { cause });
}

/** An error of the operating system that has a remedy as an AppError that names it; any other as it is. */
export function fromNodeError(error: unknown, what?: string): unknown {
  const code = nodeErrorCode(error);
  return code === 'ENOSPC' || code === 'EDQUOT' ? hostDiskFull(what, error) : error;
}
