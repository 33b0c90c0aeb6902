import { AppError } from '@aviary/core';

/** Throws `invalid_request` when the names and values of `entries` together have more than `maxBytes`. */
export function checkEntryBytes(field: string, entries: Record<string, string> | undefined, maxBytes: number): void {
  const bytes = Object.entries(entries ?? {}).reduce(
    (sum, [key, value]) => sum + Buffer.byteLength(key) + Buffer.byteLength(value),
    0,
  );
  if (bytes <= maxBytes) return;
  throw new AppError('invalid_request', `${field} has ${bytes} bytes of names and values; it may have ${maxBytes}`, {
    details: { field },
  });
}
