import type { AviaryClient } from '@aviary/sdk';
import type { Output } from '../output.ts';

/** What copying needs around it. */
export interface CopyContext {
  client: AviaryClient;
  sandboxId: string;
  /** Settings of every call: the user in the guest, the signal. */
  options: { user?: string; signal: AbortSignal };
  output: Output;
}

/** What was copied. */
export interface CopyCount {
  files: number;
  directories: number;
  links: number;
  bytes: number;
  /** Neither file, directory nor link. */
  skipped: string[];
}

export const noCopies = (): CopyCount => ({ files: 0, directories: 0, links: 0, bytes: 0, skipped: [] });

const copiesAtOnce = 4;

/** Does `work` for each item, a few at a time. The first failure ends it. */
export async function forEachAtOnce<T>(items: AsyncIterable<T> | Iterable<T>, work: (item: T) => Promise<void>) {
  const iterator =
    Symbol.asyncIterator in items ? items[Symbol.asyncIterator]() : (items[Symbol.iterator]() as Iterator<T>);
  let isFailed = false;
  const lane = async () => {
    for (let next = await iterator.next(); !next.done && !isFailed; next = await iterator.next()) {
      await work(next.value).catch((error: unknown) => {
        isFailed = true;
        throw error;
      });
    }
  };
  await Promise.all(Array.from({ length: copiesAtOnce }, lane));
}

/** What was copied, for people. */
export function renderCount(place: string, { files, directories, links, bytes, skipped }: CopyCount): string {
  const parts = [
    counted(files, 'file'),
    counted(directories, 'directory', 'directories'),
    ...(links > 0 ? [counted(links, 'link')] : []),
    counted(bytes, 'byte'),
  ];
  const left = skipped.map((name) => `skipped ${name}: neither file, directory nor link`);
  return [`${place} ${parts.join(', ')}`, ...left].join('\n');
}

/** So many of a thing, in words. */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}
