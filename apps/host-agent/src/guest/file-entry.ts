import { type EntryInfo, FileType } from '@aviary/proto/filesystem';
import type { FileEntry } from '@aviary/proto/hostagent';

const types: Record<number, string> = {
  [FileType.FILE]: 'file',
  [FileType.DIRECTORY]: 'directory',
  [FileType.SYMLINK]: 'symlink',
};

/** A directory entry as the guest's agent describes it, in the host agent's terms. */
export function fileEntryFromGuest(entry: EntryInfo): Omit<FileEntry, '$typeName'> {
  return {
    name: entry.name,
    path: entry.path,
    type: types[entry.type] ?? 'unknown',
    size: entry.size,
    mode: entry.mode,
    permissions: entry.permissions,
    owner: entry.owner,
    group: entry.group,
    modifiedAtUnix: entry.modifiedTime?.seconds ?? 0n,
    ...(entry.symlinkTarget === undefined ? {} : { symlinkTarget: entry.symlinkTarget }),
  };
}
