import { type BigIntStats, lstatSync, readlinkSync, statSync } from 'node:fs';
import { basename } from 'node:path';
import { readExtendedAttributes } from '@aviary/linux';
import type { OperationContext } from './operation-context.ts';

/** User metadata of a file lives in extended attributes under this prefix. */
export const metadataPrefix = 'user.e2b.';

/** What a path is, as the kernel tells it. */
export interface Entry {
  name: string;
  path: string;
  type: 'file' | 'directory' | 'symlink' | 'special';
  size: bigint;
  /** Permission bits. */
  mode: number;
  permissions: string;
  uid: number;
  gid: number;
  modifiedNs: bigint;
  symlinkTarget?: string;
  metadata: Record<string, string>;
}

const S_IFMT = 0o170000n;
const typeLetters = new Map<bigint, string>([
  [0o040000n, 'd'],
  [0o120000n, 'L'],
  [0o060000n, 'D'],
  [0o020000n, 'c'],
  [0o010000n, 'p'],
  [0o140000n, 'S'],
]);

/** What a path is. A link describes itself, with the type of what it leads to. Throws `ENOENT` when nothing is there. */
export function readEntry(_context: OperationContext, { path }: { path: string }): Entry {
  const stats = lstatSync(path, { bigint: true });
  const isLink = stats.isSymbolicLink();
  return {
    name: basename(path) || '/',
    path,
    type: isLink ? linkType(path) : entryType(stats),
    size: stats.size,
    mode: Number(stats.mode & 0o7777n),
    permissions: permissionText(stats.mode),
    uid: Number(stats.uid),
    gid: Number(stats.gid),
    modifiedNs: stats.mtimeNs,
    ...(isLink ? { symlinkTarget: readlinkSync(path) } : {}),
    metadata: readMetadata(path),
  };
}

/** The user metadata of a file, by the names it was uploaded with. */
function readMetadata(path: string): Record<string, string> {
  const attributes = Object.entries(readExtendedAttributes(path, metadataPrefix));
  return Object.fromEntries(attributes.map(([name, value]) => [name.slice(metadataPrefix.length), value]));
}

function entryType(stats: BigIntStats): Entry['type'] {
  if (stats.isDirectory()) return 'directory';
  return stats.isFile() ? 'file' : 'special';
}

function linkType(path: string): Entry['type'] {
  try {
    const type = entryType(statSync(path, { bigint: true }));
    return type === 'special' ? 'symlink' : type;
  } catch {
    return 'symlink'; // leads nowhere, in circles, or where the user may not look
  }
}

/** `-rw-r--r--`, the kind's letter first. */
function permissionText(mode: bigint): string {
  const bits = 'rwxrwxrwx';
  const letters = [...bits].map((letter, index) => ((mode >> BigInt(8 - index)) & 1n ? letter : '-'));
  return (typeLetters.get(mode & S_IFMT) ?? '-') + letters.join('');
}
