import path from 'node:path';
import { AppError, errorText, must } from '@aviary/core';
import { type Logger, nodeErrorCode } from '@aviary/service-kit';
import type { DiskLayer } from '../disk/disk-store.ts';
import type { HostLayout } from '../layout.ts';
import type { DirtyRange } from '../memory/diff-writer.ts';
import { rangesBeside, readDiff } from '../memory/memory-diff.ts';
import { waitForLastWriter } from './disk-handover.ts';
import type { MemorySource } from './generation-draft.ts';
import { type GenerationIndex, readManifestFile } from './generation-index.ts';
import {
  type GenerationManifest,
  type MemoryFacts,
  type MergedManifest,
  type PartFacts,
  parseGenerationManifest,
  parseMergedManifest,
  type StorageRef,
  statePart,
} from './manifest.ts';
import { preferredMerged } from './needed-parts.ts';
import type { CheckOptions, VerifiedParts } from './verified-parts.ts';

/** A generation whose files were checked, ready to start from. */
export interface OpenedGeneration {
  manifest: GenerationManifest;
  directory: string;
  disk: DiskLayer;
  /** Absent when there is no memory, or only the disk was asked for. */
  memory?: MemorySource & { statePath: string };
}

/** How a VMM that maps one file gets a generation's memory. */
export interface RestoreMemory {
  statePath: string;
  /** The full image to map. What a microVM restored this way writes, and `pages`, are relative to it. */
  base: MemorySource;
  /** What differs from the image; undefined when nothing does. To be read once. */
  pages?: AsyncIterable<DirtyRange>;
}

export interface GenerationReaderDeps {
  layout: HostLayout;
  logger: Logger;
  index: GenerationIndex;
  verified: VerifiedParts;
  /** Forgets and removes a merged form whose files are not what its manifest says. */
  dropMerged(merged: MergedManifest): Promise<void>;
}

/** Finds a generation's files and checks that they are what the manifests say. Changes nothing but a damaged merged form, which it drops. */
export class GenerationReader {
  readonly #deps: GenerationReaderDeps;

  constructor(deps: GenerationReaderDeps) {
    this.#deps = deps;
  }

  /** A generation of the index, checked. Throws `integrity` with `details.disk_intact`. */
  async open(
    known: GenerationManifest,
    { need, ...check }: { need: 'memory' | 'disk' } & CheckOptions,
  ): Promise<OpenedGeneration> {
    try {
      const directory = this.#deps.layout.generation(known.id);
      const manifest = await this.#readManifest(known.id);
      const disk = await this.#openDisk(manifest, check);
      if (need === 'disk' || manifest.memory.kind === 'none') return { manifest, directory, disk };
      return { manifest, directory, disk, memory: await this.#openMemory(manifest, check) };
    } catch (error) {
      throw await this.#explain(known, error, check);
    }
  }

  /**
   * What to map and what to write over it: the full image that an opened generation's diffs lie on, and the diffs' pages. Reading
   * them takes far less time than copying the image. Throws `invalid_state` when there is no memory, or no image below it:
   * {@link ensureFullImage} makes one.
   */
  async restoreMemory({ manifest, memory }: OpenedGeneration): Promise<RestoreMemory> {
    if (!memory) throw new AppError('invalid_state', `generation ${manifest.id} has no memory to restore`);
    const { statePath } = memory;
    if (memory.kind === 'full') return { statePath, base: memory };
    const { mapping, memoryBytes } = await readDiff(memory.path);
    const storage = this.#imageBelow(memory);
    if (!storage || memoryBytes !== manifest.memoryMib * 2 ** 20)
      throw new AppError('invalid_state', `the memory of generation ${manifest.id} lies on no full image`);
    const locate = this.locator(memory);
    const base: MemorySource = { storage, kind: 'full', path: this.storagePath(storage).path, needs: [] };
    return { statePath, base, pages: rangesBeside(storage.storageId, mapping, locate) };
  }

  /**
   * The kernel's records of the files that a microVM restored from it goes on reading: its image, its disk's layers. Another answer later means that
   * one of them was touched; undefined, that one is not what was checked when it was opened. Reads none of them.
   */
  async restoredRecord({ manifest, memory }: OpenedGeneration): Promise<string | undefined> {
    const { layout, verified } = this.#deps;
    const own = path.join(layout.generation(manifest.id), manifest.disk.part);
    const below = manifest.disk.backing.flatMap((layer) =>
      layer.kind === 'generation' ? [path.join(layout.generation(layer.generationId), layer.part)] : [],
    );
    const memoryFiles = memory ? [memory.path, ...memory.needs.map((ref) => this.storagePath(ref).path)] : [];
    const records = await Promise.all([own, ...below, ...memoryFiles].map((file) => verified.trustedRecord(file)));
    return records.includes(undefined) ? undefined : records.join('\n');
  }

  /** Whether {@link restoreMemory} has an image to start from. */
  canRestore({ memory }: OpenedGeneration): boolean {
    return memory === undefined || memory.kind === 'full' || this.#imageBelow(memory) !== undefined;
  }

  /** The full image among what a diff reads from. There is at most one: a diff's base is an image, or a diff on one. */
  #imageBelow({ needs }: MemorySource): StorageRef | undefined {
    return needs.find((ref) => this.storagePath(ref).facts.kind === 'full');
  }

  /** Where the memory files are that an opened generation's memory reads from, by storage id. */
  locator({ storage, needs }: MemorySource): (storageId: string) => string {
    const refs = [storage, ...needs];
    return (storageId) => {
      const ref = refs.find((one) => one.storageId === storageId);
      return this.storagePath(must(ref, 'a mapping reads only from storages that the manifest names')).path;
    };
  }

  /** Where a memory file is, and what its manifest says about it. Throws `integrity` when it is gone. */
  storagePath({ generationId, storageId }: StorageRef): {
    path: string;
    facts: Exclude<MemoryFacts, { kind: 'none' }>;
    part: { bytes: number; sha256: string };
  } {
    const { layout } = this.#deps;
    const isOwn = storageId === generationId;
    const owner = isOwn
      ? this.#deps.index.generations.get(generationId)?.manifest
      : this.#deps.index.merged.get(storageId);
    if (!owner || owner.memory.kind === 'none')
      throw new AppError('integrity', `saved memory ${storageId} is missing`, { details: { storage_id: storageId } });
    const directory = isOwn ? layout.generation(generationId) : layout.merged(generationId, storageId);
    const facts = owner.memory;
    return {
      path: path.join(directory, facts.part),
      facts,
      part: must(owner.parts[facts.part], 'a parsed manifest lists its parts'),
    };
  }

  async #readManifest(generationId: string): Promise<GenerationManifest> {
    const manifest = parseGenerationManifest(await readManifestFile(this.#deps.layout.generation(generationId)));
    if (manifest.id !== generationId)
      throw new AppError('integrity', `generation ${generationId} holds the files of ${manifest.id}`);
    return manifest;
  }

  async #openDisk(manifest: GenerationManifest, check: CheckOptions): Promise<DiskLayer> {
    const { part, format, backing } = manifest.disk;
    const layers = [{ generationId: manifest.id, part }, ...backing.filter((layer) => layer.kind === 'generation')];
    for (const layer of layers) await this.#checkPart(layer, check);
    return { path: path.join(this.#deps.layout.generation(manifest.id), part), format };
  }

  async #checkPart({ generationId, part }: { generationId: string; part: string }, check: CheckOptions): Promise<void> {
    const facts = this.#deps.index.generations.get(generationId)?.manifest.parts[part];
    if (!facts) throw new AppError('integrity', `saved file ${generationId}/${part} is missing`);
    await this.#check(path.join(this.#deps.layout.generation(generationId), part), facts, check);
  }

  /** Once it can change no more. */
  async #check(file: string, facts: PartFacts, check: CheckOptions): Promise<void> {
    await waitForLastWriter(file);
    await this.#deps.verified.check(file, facts, check);
  }

  async #openMemory(manifest: GenerationManifest, check: CheckOptions): Promise<MemorySource & { statePath: string }> {
    const { id: generationId } = manifest;
    await this.#checkPart({ generationId, part: statePart }, check);
    const statePath = path.join(this.#deps.layout.generation(generationId), statePart);
    const merged = preferredMerged(this.#deps.index, generationId);
    if (merged) {
      try {
        return { ...(await this.#openStorage(merged, check)), statePath };
      } catch (error) {
        // The chain it was made from may still be there; if not, its own error says so.
        this.#deps.logger.error(
          { generationId, error: errorText(error) },
          'merged memory is damaged, trying its chain',
        );
        await this.#deps.dropMerged(merged);
      }
    }
    return { ...(await this.#openStorage({ generationId, storageId: generationId }, check)), statePath };
  }

  async #openStorage({ generationId, storageId }: StorageRef, check: CheckOptions): Promise<MemorySource> {
    const storage = { generationId, storageId };
    const { path: file, facts, part } = this.storagePath(storage);
    if (storageId !== generationId) {
      const stored = parseMergedManifest(await readManifestFile(path.dirname(file)));
      if (stored.storageId !== storageId)
        throw new AppError('integrity', `merged memory ${storageId} holds another's files`);
    }
    await this.#check(file, part, check);
    if (facts.kind === 'full') return { storage, kind: 'full', path: file, needs: [] };
    const header = await readDiff(file);
    if (header.id !== storageId) throw new AppError('integrity', `memory diff ${storageId} is that of ${header.id}`);
    for (const ref of facts.needs) {
      const below = this.storagePath(ref);
      await this.#check(below.path, below.part, check);
    }
    return { storage, kind: 'diff', path: file, needs: facts.needs };
  }

  /** Turns what went wrong with a generation into an error that says whether its disk can still be started from. */
  async #explain(known: GenerationManifest, error: unknown, check: CheckOptions): Promise<unknown> {
    const isMissing = nodeErrorCode(error) === 'ENOENT';
    if (!isMissing && !(error instanceof AppError && error.code === 'integrity')) return error;
    let isDiskIntact = true;
    try {
      await this.#openDisk(known, check);
    } catch {
      isDiskIntact = false;
    }
    const next = isDiskIntact ? 'its disk is intact: start from the disk, or rewind' : 'rewind to another generation';
    const details = {
      ...(error instanceof AppError ? error.details : {}),
      generation_id: known.id,
      disk_intact: isDiskIntact,
    };
    return new AppError('integrity', `cannot restore generation ${known.id}: ${errorText(error)}; ${next}`, {
      details,
      cause: error,
    });
  }
}
