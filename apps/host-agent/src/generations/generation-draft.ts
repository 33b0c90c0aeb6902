import { mkdir, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { AppError, parseSafeName } from '@aviary/core';
import { type FaultPoints, fromNodeError, syncDirectory, writeDurableFile } from '@aviary/service-kit';
import type { HostLayout } from '../layout.ts';
import type { OnRange, WrittenDiff } from '../memory/diff-writer.ts';
import { fullMapping, storagesOf } from '../memory/mapping.ts';
import { readDiff, writeDiff } from '../memory/memory-diff.ts';
import { type AdoptBy, adoptFile, freezeFile } from './disk-handover.ts';
import {
  diffMemoryPart,
  formatManifest,
  type GenerationManifest,
  type MemoryFacts,
  manifestFile,
  type StorageRef,
} from './manifest.ts';
import { type SealedPart, sealPart } from './seal-part.ts';
import type { VerifiedParts } from './verified-parts.ts';

/** A memory file that a microVM was restored from: what its dirty pages are relative to. */
export interface MemorySource {
  storage: StorageRef;
  kind: 'full' | 'diff';
  path: string;
  /** Other memory files that a diff reads from. */
  needs: readonly StorageRef[];
}

export interface DraftDeps {
  layout: HostLayout;
  faults: FaultPoints;
  verified: VerifiedParts;
  readerGid: number | undefined;
  /** Tells the store about a generation that is in place. */
  onCommitted(manifest: GenerationManifest): void;
  /** Tells the store that the draft is over, one way or the other. */
  onClosed(): void;
}

/** What only the caller knows at commit; the rest the draft has gathered. */
export type CommitFacts = Omit<GenerationManifest, 'id' | 'sandboxId' | 'number' | 'parts' | 'memory'>;

/**
 * A generation in the making, in a directory of its own beside the committed ones. Parts are added in any order, each durable when
 * its call resolves; `commit` makes all of them a generation at one instant, the rename. Disposing of it before that leaves nothing.
 */
export class GenerationDraft implements AsyncDisposable {
  readonly id: string;
  readonly sandboxId: string;
  readonly number: number;
  readonly directory: string;
  readonly #deps: DraftDeps;
  readonly #parts = new Map<string, SealedPart>();
  #memory: MemoryFacts = { kind: 'none' };
  #isOpen = true;

  private constructor(deps: DraftDeps, identity: { id: string; sandboxId: string; number: number }) {
    this.#deps = deps;
    this.id = identity.id;
    this.sandboxId = identity.sandboxId;
    this.number = identity.number;
    this.directory = deps.layout.generationDraft(identity.id);
  }

  static async create(
    deps: DraftDeps,
    identity: { id: string; sandboxId: string; number: number },
  ): Promise<GenerationDraft> {
    const draft = new GenerationDraft(deps, identity);
    try {
      await mkdir(draft.directory, { mode: 0o711 });
    } catch (error) {
      deps.onClosed();
      throw fromNodeError(error, 'start a generation');
    }
    return draft;
  }

  /** Where part `name` is, or is to be written by somebody else before {@link sealPart}. */
  path(name: string): string {
    return path.join(this.directory, parseSafeName(name, 'part'));
  }

  /** Flushes and hashes a part that was written at `path(name)`, e.g. the device state. */
  async sealPart(name: string, signal?: AbortSignal): Promise<void> {
    await this.#guard(`save ${name}`, async () => {
      await this.#deps.faults.hit('generation.before-fsync');
      this.#parts.set(name, await sealPart(this.path(name), signal));
    });
  }

  /** Makes a file of the sandbox's a part; see `disk-handover.ts` for when to link and when to copy. */
  async adoptPart(name: string, source: { path: string; by: AdoptBy }, signal?: AbortSignal): Promise<void> {
    await this.#guard(`save ${name}`, () => adoptFile(source.path, this.path(name), source.by));
    await this.sealPart(name, signal);
  }

  /** Makes a booted microVM's memory file the generation's full image. */
  async adoptFullMemory(name: string, source: { path: string; by: AdoptBy }, signal?: AbortSignal): Promise<void> {
    await this.adoptPart(name, source, signal);
    this.#memory = { kind: 'full', part: name };
  }

  /** Writes what a restored microVM changed since `base`, e.g. with `(onRange) => microVm.dirtyPages(onRange)`. */
  async writeMemoryDiff(
    { base, memoryBytes }: { base: MemorySource; memoryBytes: number },
    produce: (onRange: OnRange) => Promise<void>,
  ): Promise<WrittenDiff> {
    return await this.#guard('save memory', async () => {
      const target = this.path(diffMemoryPart);
      const baseMapping =
        base.kind === 'full' ? fullMapping(base.storage.storageId, memoryBytes) : (await readDiff(base.path)).mapping;
      await this.#deps.faults.hit('generation.before-fsync');
      const facts = {
        id: this.id,
        baseId: base.storage.storageId,
        generationNumber: this.number,
        memoryBytes,
        baseMapping,
      };
      const written = await writeDiff(target, facts, produce);
      const { bytes, sha256 } = written;
      this.#parts.set(diffMemoryPart, { bytes, sha256, stat: await stat(target, { bigint: true }) });
      const used = new Set(storagesOf(written.mapping));
      const needs = [base.storage, ...base.needs].filter(({ storageId }) => used.has(storageId));
      this.#memory = { kind: 'diff', part: diffMemoryPart, needs };
      return written;
    });
  }

  /**
   * Makes the draft a generation. Durable when it resolves. When it throws there is no such generation and the microVM may go on;
   * a crash leaves either the whole generation or a draft that the store removes when it opens.
   */
  async commit(facts: CommitFacts): Promise<GenerationManifest> {
    const { id, sandboxId, number } = this;
    const parts = Object.fromEntries([...this.#parts].map(([name, { bytes, sha256 }]) => [name, { bytes, sha256 }]));
    const manifest: GenerationManifest = { ...facts, id, sandboxId, number, parts, memory: this.#memory };
    const home = this.#deps.layout.generation(id);
    await this.#guard('commit a generation', async () => {
      await this.#deps.faults.hit('generation.before-manifest');
      await writeDurableFile(path.join(this.directory, manifestFile), formatManifest('generation', manifest));
      await this.#deps.faults.hit('generation.before-rename');
      await rename(this.directory, home);
      try {
        await this.#deps.faults.hit('generation.after-rename');
        await syncDirectory(path.dirname(home));
        await this.#freeze(home);
      } catch (error) {
        // Back to a draft first: the parts may be linked to files that the microVM goes on writing, so that a generation that
        // was not acknowledged must not stay.
        await rename(home, this.directory);
        throw error;
      }
    });
    this.#isOpen = false;
    this.#deps.onCommitted(manifest);
    this.#deps.onClosed();
    return manifest;
  }

  async #freeze(home: string): Promise<void> {
    for (const [name, sealed] of this.#parts) {
      const file = path.join(home, name);
      await freezeFile(file, this.#deps.readerGid);
      const now = await stat(file, { bigint: true });
      // Our own chmod moved ctime; a writer would have moved mtime too.
      const isSame =
        now.ino === sealed.stat.ino && now.size === BigInt(sealed.bytes) && now.mtimeNs === sealed.stat.mtimeNs;
      if (!isSame) throw new AppError('conflict', `cannot commit a generation: ${name} was written after it was saved`);
      await this.#deps.verified.rememberFresh(file, now);
    }
  }

  /** Removes everything of a draft that was not committed. No effect after a commit. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    try {
      await rm(this.directory, { recursive: true, force: true });
    } finally {
      this.#deps.onClosed();
    }
  }

  async #guard<T>(what: string, work: () => Promise<T>): Promise<T> {
    if (!this.#isOpen) throw new Error(`invariant broken: cannot ${what}, the draft is over`);
    try {
      return await work();
    } catch (error) {
      throw fromNodeError(error, what);
    }
  }
}
