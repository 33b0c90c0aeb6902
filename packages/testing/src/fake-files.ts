import path from 'node:path';
import { AppError, fileLimits } from '@aviary/core';

interface FakeEntry {
  name: string;
  path: string;
  type: 'file' | 'directory';
  size: bigint;
}

/** A guest's file system in memory: files by absolute path, and the directories above them. */
export class FakeFiles {
  readonly #files = new Map<string, Uint8Array>();
  readonly #directories = new Set(['/', '/tmp', '/home', '/home/user']);

  copy(): FakeFiles {
    const copy = new FakeFiles();
    for (const [name, content] of this.#files) copy.#files.set(name, content);
    for (const name of this.#directories) copy.#directories.add(name);
    return copy;
  }

  write(name: string, content: Uint8Array): void {
    this.#addDirectories(path.posix.dirname(checkPath(name)));
    this.#files.set(name, content);
  }

  read(name: string): Uint8Array {
    const content = this.#files.get(checkPath(name));
    if (content) return content;
    if (this.#directories.has(name))
      throw pathError('invalid_request', `cannot read ${name}: it is not a regular file`);
    throw missing(name);
  }

  /** A page of what is below a directory; `next` when there is more. */
  page(
    directory: string,
    { depth, pageSize, cursor }: { depth: number; pageSize: number; cursor: string },
  ): { entries: FakeEntry[]; next: string } {
    const all = this.#list(directory, depth).filter(({ path: entry }) => entry > cursor);
    const entries = all.slice(0, pageSize || fileLimits.maxListEntries);
    return { entries, next: entries.length < all.length ? (entries.at(-1)?.path ?? '') : '' };
  }

  #list(directory: string, depth: number): FakeEntry[] {
    const top = checkPath(directory).replace(/(.)\/+$/, '$1');
    if (this.#files.has(top)) throw pathError('invalid_request', `cannot list ${top}: it is not a directory`);
    if (!this.#directories.has(top)) throw missing(top);
    const entries = [
      ...[...this.#files].map(([name, { length }]) => entryOf(name, 'file', length)),
      ...[...this.#directories].map((name) => entryOf(name, 'directory', 4_096)),
    ];
    const levels = (name: string) => path.posix.relative(top, name).split('/').length;
    return entries
      .filter((entry) => entry.path !== top && isInside(entry.path, top) && levels(entry.path) <= Math.max(1, depth))
      .sort((a, b) => (a.path < b.path ? -1 : 1));
  }

  makeDirectory(name: string): FakeEntry {
    if (this.#directories.has(checkPath(name)) || this.#files.has(name))
      throw pathError('already_exists', `cannot create the directory ${name}: something is there`);
    this.#addDirectories(name);
    return entryOf(name, 'directory', 4_096);
  }

  /** Like rm -rf: no error when nothing is there. */
  remove(name: string): void {
    checkPath(name);
    for (const file of [...this.#files.keys()]) if (isInside(file, name)) this.#files.delete(file);
    for (const directory of [...this.#directories]) if (isInside(directory, name)) this.#directories.delete(directory);
  }

  #addDirectories(name: string): void {
    // A relative name never comes to the root by itself.
    for (let directory = path.posix.resolve('/', name); directory !== '/'; directory = path.posix.dirname(directory)) {
      if (this.#files.has(directory))
        throw pathError('invalid_request', `cannot create the directory ${directory}: a file is in its way`);
      this.#directories.add(directory);
    }
  }
}

function isInside(name: string, directory: string): boolean {
  return name === directory || name.startsWith(directory === '/' ? '/' : `${directory}/`);
}

function entryOf(name: string, type: FakeEntry['type'], length: number): FakeEntry {
  return { name: path.posix.basename(name), path: name, type, size: BigInt(length) };
}

function checkPath(name: string): string {
  if (name === '' || name.includes('\0')) throw pathError('invalid_request', 'path must not be empty or hold a NUL');
  return name;
}

function missing(name: string): AppError {
  return pathError('not_found', `cannot stat ${name}: no such file or directory`);
}

function pathError(code: 'invalid_request' | 'not_found' | 'already_exists', message: string): AppError {
  return new AppError(code, message, { details: { field: 'path' } });
}
