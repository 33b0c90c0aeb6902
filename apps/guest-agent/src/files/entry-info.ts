import type { BigIntStats } from 'node:fs';
import { lstat, readlink, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { readExtendedAttributes } from '@aviary/linux';
import { type EntryInfoSchema, FileType } from '@aviary/proto/filesystem';
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { UserDatabase } from '../users/user-database.ts';

export type EntryInfoInit = MessageInitShape<typeof EntryInfoSchema>;

/** User metadata of a file lives in extended attributes under this prefix. */
export const metadataPrefix = 'user.e2b.';

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
export async function readEntry(path: string, users: UserDatabase): Promise<EntryInfoInit> {
  const stats = await lstat(path, { bigint: true });
  const isLink = stats.isSymbolicLink();
  return {
    name: basename(path) || '/',
    path,
    type: isLink ? await linkType(path) : entryType(stats),
    size: stats.size,
    mode: Number(stats.mode & 0o7777n),
    permissions: permissionText(stats.mode),
    owner: users.userName(Number(stats.uid)),
    group: users.groupName(Number(stats.gid)),
    modifiedTime: { seconds: stats.mtimeNs / 1_000_000_000n, nanos: Number(stats.mtimeNs % 1_000_000_000n) },
    ...(isLink ? { symlinkTarget: await readlink(path) } : {}),
    metadata: readMetadata(path),
  };
}

/** The user metadata of a file, by the names it was uploaded with. */
export function readMetadata(path: string): Record<string, string> {
  const attributes = Object.entries(readExtendedAttributes(path, metadataPrefix));
  return Object.fromEntries(attributes.map(([name, value]) => [name.slice(metadataPrefix.length), value]));
}

function entryType(stats: BigIntStats): FileType {
  if (stats.isDirectory()) return FileType.DIRECTORY;
  return stats.isFile() ? FileType.FILE : FileType.UNSPECIFIED;
}

async function linkType(path: string): Promise<FileType> {
  try {
    const type = entryType(await stat(path, { bigint: true }));
    return type === FileType.UNSPECIFIED ? FileType.SYMLINK : type;
  } catch {
    return FileType.SYMLINK; // leads nowhere, or in circles
  }
}

/** `-rw-r--r--`, the kind's letter first. */
function permissionText(mode: bigint): string {
  const bits = 'rwxrwxrwx';
  const letters = [...bits].map((letter, index) => ((mode >> BigInt(8 - index)) & 1n ? letter : '-'));
  return (typeLetters.get(mode & S_IFMT) ?? '-') + letters.join('');
}
