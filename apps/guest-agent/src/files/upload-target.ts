import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  lstatSync,
  openSync,
  readlinkSync,
  readSync,
  realpathSync,
  renameSync,
  type Stats,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { copyExtendedAttributes, linkOpenFile, openUnnamed, setExtendedAttribute } from '@aviary/linux';
import { metadataPrefix } from './entry-info.ts';
import { makeParents } from './make-directories.ts';
import { failedTo, type OperationContext } from './operation-context.ts';
import { refuseSpecialFile } from './special-file.ts';

/** A file on its way: written to `fd`, then put in its place by {@link commitUpload} or dropped by {@link discardUpload}. */
export interface UploadTarget {
  fd: number;
  path: string;
  /** Where the new file goes: behind the symbolic links that `path` leads through. */
  place: string;
  /** What the file that is there now hands on to the new one. */
  kept?: { uid: number; gid: number; mode: number };
  /** The name of the content so far, on file systems where a file cannot be without one. */
  temporary?: string;
  /** The directory takes no new file: the content waits elsewhere and is copied into the present one. */
  isCopied: boolean;
}

const newFileMode = 0o644;
/** Nobody else reads what is not whole yet. */
const temporaryMode = 0o600;
const openPresent = constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY | constants.O_NOFOLLOW;
const maxLinks = 40;
const copyBytes = 1024 * 1024;
const isKeptAttribute = (name: string) => name.startsWith('user.') || name === 'system.posix_acl_access';

/** Opens a place for a new file's content, its directories made. The file that is there stays as it is. */
export function prepareUpload(context: OperationContext, { path }: { path: string }): UploadTarget {
  try {
    makeParents(context, path);
    const present = statSync(path, { throwIfNoEntry: false });
    if (!present) return openTemporary({ path, place: followLinks(path) });
    refuseSpecialFile(present, 'write', path);
    const place = realpathSync.native(path);
    // The right to write is the file's own: a new one in its place must not get around it.
    closeSync(openSync(place, openPresent));
    const { uid, gid } = present;
    // As a write does, unless it is root's: see write(2).
    const mode = present.mode & (context.user.uid === 0 ? 0o7777 : 0o1777);
    return openTemporary({ path, place, kept: { uid, gid, mode } });
  } catch (error) {
    throw failedTo('write', path, error);
  }
}

/**
 * Puts the whole content in its place: by a rename, so that readers see the old file or the new one. Owner, group, permissions, ACL and `user.*`
 * attributes of the file that was there go on; other hard links keep the old content. Only where the directory lets the user replace
 * nothing, the content is copied into the file.
 */
export function commitUpload(
  context: OperationContext,
  { target, metadata }: { target: UploadTarget; metadata: Readonly<Record<string, string>> },
): void {
  const { fd, place, path } = target;
  try {
    if (!target.isCopied && replacePlace(context, target, metadata)) return;
    copyInto(context, fd, place);
    setMetadata(place, metadata);
  } catch (error) {
    throw failedTo('write', path, error);
  }
}

/** False where the user may write the file but not replace it: a directory with the sticky bit, a mount point, a file that they may not read. */
function replacePlace(
  context: OperationContext,
  target: UploadTarget,
  metadata: Readonly<Record<string, string>>,
): boolean {
  const { fd, place, kept } = target;
  let { temporary } = target;
  try {
    giveAttributes(context, target, metadata);
    temporary ??= nameFile(fd, dirname(place));
    renameSync(temporary, place);
    return true;
  } catch (error) {
    if (temporary !== undefined) removeOwn(context, fd, temporary);
    if (!kept || !isRefusal(error)) throw error;
    return false;
  }
}

/** Removes a name of `fd`. In a directory with the sticky bit only the file's owner may, who is the present file's by now. */
function removeOwn({ asRoot, user }: OperationContext, fd: number, name: string): void {
  if (fstatSync(fd).uid !== user.uid) asRoot(() => fchownSync(fd, user.uid, user.gid));
  unlinkSync(name);
}

/** Drops the content of an upload that failed. A file without a name goes with its descriptor. */
export function discardUpload(_context: OperationContext, { temporary }: UploadTarget): void {
  if (temporary !== undefined) unlinkSync(temporary);
}

/** Where a file appears when it is created by that name: the end of the links that lead nowhere yet. */
function followLinks(path: string): string {
  let place = path;
  for (let count = 0; lstatSync(place, { throwIfNoEntry: false })?.isSymbolicLink(); count++) {
    if (count === maxLinks) throw Object.assign(new Error('ELOOP'), { code: 'ELOOP', syscall: 'open' });
    place = resolve(dirname(place), readlinkSync(place));
  }
  return place;
}

function openTemporary(target: Pick<UploadTarget, 'path' | 'place' | 'kept'>): UploadTarget {
  const directory = dirname(target.place);
  const access = constants.O_RDWR;
  try {
    return { ...target, fd: openSync(directory, openUnnamed | access, temporaryMode), isCopied: false };
  } catch {
    // Not every file system has files without a name, and some have no new files at all.
  }
  try {
    const temporary = temporaryName(directory);
    const create = constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    return { ...target, fd: openSync(temporary, create | access, temporaryMode), temporary, isCopied: false };
  } catch (error) {
    if (!target.kept) throw error;
  }
  return { ...target, fd: openSync('/tmp', openUnnamed | access, temporaryMode), isCopied: true };
}

function giveAttributes(
  { asRoot, user }: OperationContext,
  { fd, place, kept }: UploadTarget,
  metadata: Readonly<Record<string, string>>,
): void {
  const opened = `/proc/self/fd/${fd}`;
  if (kept) copyExtendedAttributes(place, opened, isKeptAttribute);
  setMetadata(opened, metadata);
  if (!kept) {
    fchmodSync(fd, newFileMode);
    return;
  }
  const present: Stats = fstatSync(fd);
  const isOther = kept.uid !== present.uid || kept.gid !== present.gid;
  // The user may write the file as it is: whose it is does not change by that. The order matters, as chown clears bits of the mode.
  const give = () => {
    if (isOther) fchownSync(fd, kept.uid, kept.gid);
    fchmodSync(fd, kept.mode);
  };
  if (isOther && user.uid !== 0) asRoot(give);
  else give();
}

function setMetadata(path: string, metadata: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(metadata)) setExtendedAttribute(path, metadataPrefix + name, value);
}

function nameFile(fd: number, directory: string): string {
  const name = temporaryName(directory);
  linkOpenFile(fd, name);
  return name;
}

function temporaryName(directory: string): string {
  return join(directory, `.aviary-upload-${randomBytes(8).toString('hex')}`);
}

function isRefusal(error: unknown): boolean {
  return ['EACCES', 'EPERM', 'EBUSY', 'EXDEV'].includes(String((error as NodeJS.ErrnoException).code));
}

function copyInto({ checkCancelled }: OperationContext, from: number, place: string): void {
  const to = openSync(place, openPresent | constants.O_TRUNC);
  try {
    const buffer = Buffer.allocUnsafe(copyBytes);
    for (let position = 0; ; ) {
      const count = readSync(from, buffer, 0, buffer.length, position);
      if (count === 0) return;
      position += count;
      for (let at = 0; at < count; ) at += writeSync(to, buffer, at, count - at);
      checkCancelled();
    }
  } finally {
    closeSync(to);
  }
}
