import { readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { AppError, errorText, parseSafeName } from '@aviary/core';
import { fromNodeError, KeyedLock, type Logger, nodeErrorCode, writeDurableFile } from '@aviary/service-kit';
import type { HostLayout } from '../layout.ts';
import { JsonFields } from './json-fields.ts';

/** What people say about a generation. */
export interface GenerationLabel {
  name?: string;
  /** Kept until unpinned. */
  isPinned: boolean;
  /** Hidden, and removed when nothing needs it any more. */
  isDeleted: boolean;
}

/** The mutable side of a sandbox's generations: `host/labels/{sandbox}.json`. */
export interface SandboxLabels {
  /**
   * Where the sandbox was put back to (rewind), or came from (fork). It holds until a generation with a number above
   * `sinceNumber` is committed: that one is the current one then, without another write that a crash could prevent.
   */
  pointer?: { generationId: string; sinceNumber: number };
  /** The sandbox was deleted: nothing of it is kept for its own sake. */
  isForgotten: boolean;
  labels: Record<string, GenerationLabel>;
}

const formatVersion = 1;

export function noLabels(): SandboxLabels {
  return { isForgotten: false, labels: {} };
}

/** Reads a labels file; no labels when there is none. Throws `integrity` when it is damaged. */
async function readLabels(file: string): Promise<SandboxLabels> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if (nodeErrorCode(error) === 'ENOENT') return noLabels();
    throw error;
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new AppError('integrity', `${file} is not JSON`, { cause });
  }
  const fields = new JsonFields(value, 'labels.json');
  fields.integer('version', formatVersion, formatVersion);
  const pointer = fields.optional('pointer', () => {
    const inner = fields.object('pointer');
    return { generationId: inner.string('generationId'), sinceNumber: inner.integer('sinceNumber') };
  });
  return {
    ...(pointer ? { pointer } : {}),
    isForgotten: fields.boolean('isForgotten'),
    labels: fields.record('labels', (entry, what) => {
      const label = new JsonFields(entry, what);
      const name = label.optional('name', () => parseSafeName(label.string('name')));
      return {
        ...(name === undefined ? {} : { name }),
        isPinned: label.boolean('isPinned'),
        isDeleted: label.boolean('isDeleted'),
      };
    }),
  };
}

/** Replaces a labels file, durably: a crash leaves the old or the new one. */
async function writeLabels(file: string, labels: SandboxLabels): Promise<void> {
  await writeDurableFile(file, `${JSON.stringify({ version: formatVersion, ...labels })}\n`);
}

/** All labels of a host, in memory and on disk. One process has them open at a time. */
export class LabelBook {
  readonly #layout: HostLayout;
  readonly #labels = new Map<string, SandboxLabels>();
  readonly #damaged = new Set<string>();
  readonly #locks = new KeyedLock<string>();

  private constructor(layout: HostLayout) {
    this.#layout = layout;
  }

  /** Reads every labels file. A damaged one is logged, left as it is, and makes its sandbox keep all generations. */
  static async open(layout: HostLayout, logger: Logger): Promise<LabelBook> {
    const book = new LabelBook(layout);
    for (const name of await readdir(layout.labelsDirectory)) {
      if (!name.endsWith('.json')) {
        await rm(path.join(layout.labelsDirectory, name), { force: true }); // an unfinished writeDurableFile
        continue;
      }
      const sandboxId = path.basename(name, '.json');
      try {
        book.#labels.set(sandboxId, await readLabels(layout.labels(sandboxId)));
      } catch (error) {
        book.#damaged.add(sandboxId);
        logger.error(
          { sandboxId, error: errorText(error) },
          'labels cannot be read; keeping everything of this sandbox',
        );
      }
    }
    return book;
  }

  get(sandboxId: string): SandboxLabels {
    return this.#labels.get(sandboxId) ?? noLabels();
  }

  isDamaged(sandboxId: string): boolean {
    return this.#damaged.has(sandboxId);
  }

  sandboxIds(): string[] {
    return [...this.#labels.keys()];
  }

  /** Changes a sandbox's labels, durably. Throws what `change` throws, and `integrity` rather than replace a damaged file. */
  async change(sandboxId: string, change: (labels: SandboxLabels) => SandboxLabels): Promise<void> {
    await this.#locks.run(sandboxId, async () => {
      const file = this.#layout.labels(sandboxId);
      if (this.isDamaged(sandboxId))
        throw new AppError(
          'integrity',
          `cannot change labels: ${file} is damaged; repair or remove it, then restart the host agent`,
        );
      const changed = change(this.get(sandboxId));
      try {
        await writeLabels(file, changed);
      } catch (error) {
        throw fromNodeError(error, 'write labels');
      }
      this.#labels.set(sandboxId, changed);
    });
  }

  /** Drops the labels of generations that are gone, and the whole file of a forgotten sandbox that has none left. */
  async prune(exists: (generationId: string) => boolean, hasAny: (sandboxId: string) => boolean): Promise<void> {
    for (const [sandboxId, { isForgotten, labels }] of [...this.#labels]) {
      if (isForgotten && !hasAny(sandboxId)) {
        await rm(this.#layout.labels(sandboxId), { force: true });
        this.#labels.delete(sandboxId);
      } else if (!Object.keys(labels).every(exists))
        await this.change(sandboxId, (now) => ({
          ...now,
          labels: Object.fromEntries(Object.entries(now.labels).filter(([id]) => exists(id))),
        }));
    }
  }
}
