import { opendirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { AppError } from '@aviary/core';
import { type Entry, readEntry } from './entry-info.ts';
import { failedTo, type OperationContext } from './operation-context.ts';

export interface ListRequest {
  path: string;
  /** Levels to descend, at least 1. */
  depth: number;
  /** Entries of a page. */
  limit: number;
  /** A page ends earlier when its entries take more than so many bytes, roughly. */
  maxBytes?: number;
  /** Goes on behind this entry: names from the directory down, as {@link ListPage} gave them. */
  after?: readonly string[];
}

export interface ListPage {
  entries: Entry[];
  /** The last entry, when there are more behind it. */
  next?: string[];
}

/** Names that node:fs takes from the kernel at a time. */
const readAheadEntries = 256;

/**
 * A page of what is below a directory: parents before children, names in the order of their UTF-16 code units. Each page reads the directory
 * anew and keeps the names of one page only, so that memory is bounded however many entries there are; what comes and goes between two
 * pages may be in neither or both. A directory below that the user may not read is listed without its content.
 */
export function listDirectory(
  context: OperationContext,
  { path, depth, limit, maxBytes = Number.POSITIVE_INFINITY, after = [] }: ListRequest,
): ListPage {
  try {
    if (!statSync(path).isDirectory()) {
      throw new AppError('invalid_request', `cannot list ${JSON.stringify(path)}: it is not a directory`);
    }
    const page = new Page(context, { limit, maxBytes });
    const hasMore = page.walk(path, { levels: depth, after, parents: [] });
    return { entries: page.entries, ...(hasMore ? { next: page.last } : {}) };
  } catch (error) {
    throw failedTo('list', path, error);
  }
}

class Page {
  readonly entries: Entry[] = [];
  last: string[] = [];
  readonly #context: OperationContext;
  readonly #limit: number;
  #leftBytes: number;

  constructor(context: OperationContext, { limit, maxBytes }: { limit: number; maxBytes: number }) {
    this.#context = context;
    this.#limit = limit;
    this.#leftBytes = maxBytes;
  }

  /** Adds what follows `after` in this directory. True when the page ended before the directory did. */
  walk(
    directory: string,
    { levels, after, parents }: { levels: number; after: readonly string[]; parents: readonly string[] },
  ): boolean {
    const [reached, ...below] = after;
    const descend = (name: string, rest: readonly string[]) =>
      levels > 1 &&
      this.#walkBelow(join(directory, name), { levels: levels - 1, after: rest, parents: [...parents, name] });
    if (reached !== undefined && descend(reached, below)) return true;
    for (let behind = reached; ; ) {
      const wanted = this.#limit - this.entries.length + 1;
      const names = this.#firstNames(directory, { behind, wanted });
      for (const name of names) {
        if (this.entries.length === this.#limit || this.#leftBytes <= 0) return true;
        this.#context.checkCancelled();
        const entry = this.#readEntry(join(directory, name));
        if (!entry) continue;
        this.entries.push(entry);
        this.#leftBytes -= bytesOf(entry);
        this.last = [...parents, name];
        if (entry.type === 'directory' && entry.symlinkTarget === undefined && descend(name, [])) return true;
      }
      if (names.length < wanted) return false;
      behind = names.at(-1);
    }
  }

  #walkBelow(directory: string, options: Parameters<Page['walk']>[1]): boolean {
    try {
      return this.walk(directory, options);
    } catch (error) {
      // Gone since, something else by now, or not for this user.
      if (['ENOENT', 'ENOTDIR', 'EACCES', 'EPERM'].includes(String((error as NodeJS.ErrnoException).code)))
        return false;
      throw error;
    }
  }

  /** The first names behind `behind`, in order. Holds twice as many at most. */
  #firstNames(directory: string, { behind, wanted }: { behind: string | undefined; wanted: number }): string[] {
    const names: string[] = [];
    let bound: string | undefined;
    const keepFirst = () => {
      names.sort(byCodeUnits).splice(wanted);
      if (names.length === wanted) bound = names.at(-1);
    };
    const handle = opendirSync(directory, { bufferSize: readAheadEntries });
    try {
      for (let count = 0; ; count++) {
        const name = handle.readSync()?.name;
        if (name === undefined) break;
        if (count % readAheadEntries === 0) this.#context.checkCancelled();
        if ((behind !== undefined && name <= behind) || (bound !== undefined && name > bound)) continue;
        names.push(name);
        if (names.length >= 2 * wanted) keepFirst();
      }
    } finally {
      handle.closeSync();
    }
    keepFirst();
    return names;
  }

  #readEntry(path: string): Entry | undefined {
    try {
      return readEntry(this.#context, { path });
    } catch (error) {
      // It may go away while its directory is read.
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }
}

/** About what an entry takes in an answer: text may take three bytes for each code unit. */
function bytesOf({ path, name, symlinkTarget = '', metadata }: Entry): number {
  const text = path.length + name.length + symlinkTarget.length + JSON.stringify(metadata).length;
  return 3 * text + 128;
}

function byCodeUnits(a: string, b: string): number {
  return a < b ? -1 : 1;
}
