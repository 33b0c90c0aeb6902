import type { Stats } from 'node:fs';
import { AppError } from '@aviary/core';

/**
 * Throws `invalid_request` for anything but a regular file. A FIFO without its other end, a terminal or another device may never
 * answer, and opening one may set something off.
 */
export function refuseSpecialFile(stats: Stats, verb: 'read' | 'write', path: string): void {
  if (stats.isFile()) return;
  throw new AppError('invalid_request', `cannot ${verb} ${JSON.stringify(path)}: it is ${kindOf(stats)}`, {
    details: { path },
  });
}

function kindOf(stats: Stats): string {
  if (stats.isDirectory()) return 'a directory';
  if (stats.isFIFO()) return 'a FIFO, not a regular file';
  return stats.isSocket() ? 'a socket, not a regular file' : 'a device, not a regular file';
}
