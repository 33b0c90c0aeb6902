import { type EntryInfoSchema, FileType } from '@aviary/proto/filesystem';
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { IdNames } from '../users/user-database.ts';
import type { Entry } from './entry-info.ts';

export type EntryInfoInit = MessageInitShape<typeof EntryInfoSchema>;

const types = {
  file: FileType.FILE,
  directory: FileType.DIRECTORY,
  symlink: FileType.SYMLINK,
  special: FileType.UNSPECIFIED,
} as const satisfies Record<Entry['type'], FileType>;

/** An entry as clients get it, its owners by name. */
export function describeEntry({ type, uid, gid, modifiedNs, ...entry }: Entry, names: IdNames): EntryInfoInit {
  return {
    ...entry,
    type: types[type],
    owner: names.user(uid),
    group: names.group(gid),
    modifiedTime: { seconds: modifiedNs / 1_000_000_000n, nanos: Number(modifiedNs % 1_000_000_000n) },
  };
}
