import { mkdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { AppError, errorText, must, parseSafeName, sandboxLimits, uuidv7 } from '@aviary/core';
import {
  type Clock,
  type FaultPoints,
  KeyedLock,
  type Logger,
  syncDirectory,
  writeDurableFile,
} from '@aviary/service-kit';
import type { DiskLayer } from '../disk/disk-store.ts';
import type { HostLayout } from '../layout.ts';
import { type DirtyRange, materialise, mergeDiffs, rangesBeside, readDiff } from '../memory/memory-diff.ts';
import { freezeFile } from './disk-handover.ts';
import { GenerationDraft, type MemorySource } from './generation-draft.ts';
import { type GenerationIndex, loadIndex, readManifestFile, retiredFile } from './generation-index.ts';
import { LabelBook, noLabels } from './generation-labels.ts';
import {
  diffMemoryPart,
  formatManifest,
  fullMemoryPart,
  type GenerationManifest,
  type MemoryFacts,
  type MergedManifest,
  manifestFile,
  parseGenerationManifest,
  parseMergedManifest,
  type StorageRef,
  statePart,
} from './manifest.ts';
import { type Keeper, neededParts, preferredMerged } from './needed-parts.ts';
import { fromStorageError, sealPart } from './seal-part.ts';
import { type CheckOptions, VerifiedParts } from './verified-parts.ts';

export interface GenerationStoreDeps {
  layout: HostLayout;
  clock: Clock;
  logger: Logger;
  faults: FaultPoints;
}

export interface GenerationStoreOptions {
  /** The group that VMM processes read committed parts through. Default: this process's own. */
  readerGid?: number;
  /** Generations kept per sandbox besides pinned ones. */
  keptGenerations?: number;
}

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

/** A generation as users see it; `children` were made from it. */
export interface GenerationNode {
  manifest: GenerationManifest;
  name?: string;
  isPinned: boolean;
  isCurrent: boolean;
  children: GenerationNode[];
}

export interface CollectedGarbage {
  /** Generations and merged forms removed whole. */
  removed: string[];
  /** Generations of which only parts that others read are left. */
  retired: string[];
}

/**
 * The generations of one host: immutable directories, made by {@link begin}, found by {@link open}, removed by
 * {@link collectGarbage}. One process has a store open at a time (the agent's lock on its data directory sees to that).
 */
export class GenerationStore {
  readonly #deps: GenerationStoreDeps;
  readonly #options: GenerationStoreOptions;
  readonly #index: GenerationIndex;
  readonly #labels: LabelBook;
  readonly #verified = new VerifiedParts();
  /** What drafts, merges and openings under way read from: kept whatever the keepers say. */
  readonly #inFlight = new Set<readonly Keeper[]>();
  /** Numbers given to drafts that may still be open, so that two never get the same. */
  readonly #givenNumbers = new Map<string, number>();
  readonly #locks = new KeyedLock<string>();

  private constructor(
    deps: GenerationStoreDeps,
    options: GenerationStoreOptions,
    { index, labels }: { index: GenerationIndex; labels: LabelBook },
  ) {
    this.#deps = deps;
    this.#options = options;
    this.#index = index;
    this.#labels = labels;
  }

  /** Opens the store: makes its directories, removes what a crash left unfinished, reads the manifests. */
  static async open(deps: GenerationStoreDeps, options: GenerationStoreOptions = {}): Promise<GenerationStore> {
    const { layout, logger } = deps;
    // 0711: a VMM's uid may reach a file whose random id it was given, and list nothing.
    for (const directory of [layout.generationsDirectory, layout.mergedDirectory])
      await mkdir(directory, { recursive: true, mode: 0o711 });
    await mkdir(layout.labelsDirectory, { recursive: true, mode: 0o700 });
    const index = await loadIndex(layout, { logger, readerGid: options.readerGid });
    const labels = await LabelBook.open(layout, logger);
    return new GenerationStore(deps, options, { index, labels });
  }

  /**
   * Removes the sandbox's own name of a part that was adopted by link, once the microVM is gone. Removing it in another way is
   * harmless, but makes the next resume read and hash the whole part. No error when it is gone already.
   */
  async releaseSource(generationId: string, { part, path: source }: { part: string; path: string }): Promise<void> {
    const file = path.join(this.#deps.layout.generation(generationId), parseSafeName(part, 'part'));
    await this.#verified.keepTrust(file, () => rm(source, { force: true }));
  }

  /** A generation's manifest, without looking at its files; undefined when there is none, or only parts of it are left. */
  get(generationId: string): GenerationManifest | undefined {
    const found = this.#index.generations.get(generationId);
    return found && !found.retired ? found.manifest : undefined;
  }

  /** Starts a generation of a sandbox. `reads`: what it is made from, kept meanwhile. Dispose of the draft. */
  async begin(sandboxId: string, reads: readonly Keeper[] = []): Promise<GenerationDraft> {
    const { layout, faults, clock } = this.#deps;
    const number = 1 + Math.max(this.#lastNumber(sandboxId), this.#givenNumbers.get(sandboxId) ?? 0);
    this.#givenNumbers.set(sandboxId, number);
    const held = [...reads];
    this.#inFlight.add(held);
    return await GenerationDraft.create(
      {
        layout,
        faults,
        verified: this.#verified,
        readerGid: this.#options.readerGid,
        onCommitted: (manifest) => this.#index.generations.set(manifest.id, { manifest }),
        onClosed: () => this.#inFlight.delete(held),
      },
      { id: uuidv7(clock.now()), sandboxId, number },
    );
  }

  /**
   * Checks a generation's files and says where they are. `need: 'disk'` looks at the disk alone: the way back when the
   * memory is damaged or was saved by another VMM. Throws `not_found`, or `integrity` with `details.disk_intact`.
   */
  async open(
    generationId: string,
    { need, ...check }: { need: 'memory' | 'disk' } & CheckOptions = { need: 'memory' },
  ): Promise<OpenedGeneration> {
    if (!this.get(generationId)) throw notFound(generationId);
    const held: Keeper[] = [{ generationId }];
    this.#inFlight.add(held);
    try {
      const directory = this.#deps.layout.generation(generationId);
      const manifest = await this.#readManifest(generationId);
      const disk = await this.#openDisk(manifest, check);
      if (need === 'disk' || manifest.memory.kind === 'none') return { manifest, directory, disk };
      return { manifest, directory, disk, memory: await this.#openMemory(manifest, check) };
    } catch (error) {
      throw await this.#explain(generationId, error, check);
    } finally {
      this.#inFlight.delete(held);
    }
  }

  /** Keeps a generation's files, whoever else lets go of them, until disposed of: for work that goes on after {@link open}. */
  hold(generationId: string): Disposable {
    const held: readonly Keeper[] = [{ generationId }];
    this.#inFlight.add(held);
    return { [Symbol.dispose]: () => void this.#inFlight.delete(held) };
  }

  /** Reads every byte of a generation and of what it needs, trusting nothing. Throws as {@link open} does. */
  async verify(generationId: string, signal?: AbortSignal): Promise<void> {
    await this.open(generationId, { need: 'memory', isThorough: true, ...(signal ? { signal } : {}) });
  }

  /** A sandbox's generations as trees, oldest first. Parents that are gone are skipped over. */
  list(sandboxId: string): GenerationNode[] {
    const { labels } = this.#labels.get(sandboxId);
    const current = this.#current(sandboxId);
    const nodes = new Map<string, GenerationNode>();
    for (const manifest of this.#visible(sandboxId)) {
      const { name, isPinned = false } = labels[manifest.id] ?? {};
      const isCurrent = manifest.id === current;
      nodes.set(manifest.id, { manifest, isPinned, isCurrent, children: [], ...(name === undefined ? {} : { name }) });
    }
    const roots: GenerationNode[] = [];
    for (const node of nodes.values()) {
      let parent = node.manifest.parent;
      while (parent !== undefined && !nodes.has(parent)) parent = this.#index.generations.get(parent)?.manifest.parent;
      const above = parent === undefined ? undefined : nodes.get(parent);
      (above?.children ?? roots).push(node);
    }
    return roots;
  }

  /** The generation that a sandbox resumes from: where it was last put, or the newest since. */
  current(sandboxId: string): string | undefined {
    return this.#current(sandboxId);
  }

  /** Puts a sandbox on a generation: an older one of its own (rewind), or another's (fork). */
  async setCurrent(sandboxId: string, generationId: string): Promise<void> {
    if (!this.get(generationId)) throw notFound(generationId);
    await this.#labels.change(sandboxId, (labels) => ({
      ...labels,
      pointer: { generationId, sinceNumber: this.#lastNumber(sandboxId) },
    }));
  }

  /** Names or pins a generation. Names are unique within a sandbox: throws `already_exists`. An empty name takes it away. */
  async label(generationId: string, change: { name?: string; isPinned?: boolean }): Promise<void> {
    const manifest = this.get(generationId);
    if (!manifest) throw notFound(generationId);
    await this.#labels.change(manifest.sandboxId, (labels) => {
      const old = labels.labels[generationId] ?? { isPinned: false, isDeleted: false };
      const name = change.name === undefined ? old.name : change.name === '' ? undefined : parseSafeName(change.name);
      const taken = Object.entries(labels.labels).find(([id, other]) => id !== generationId && other.name === name);
      if (name !== undefined && taken)
        throw new AppError(
          'already_exists',
          `cannot name the generation ${name}: another of this sandbox has that name`,
        );
      const { isDeleted } = old;
      const isPinned = change.isPinned ?? old.isPinned;
      const label = { isPinned, isDeleted, ...(name === undefined ? {} : { name }) };
      return { ...labels, labels: { ...labels.labels, [generationId]: label } };
    });
  }

  /**
   * Deletes a generation: hidden at once, removed when nothing needs its files (`deferred` until then). Throws `invalid_state`
   * for the one that the sandbox would resume from, or that a keeper names.
   */
  async delete(generationId: string, keepers: readonly Keeper[]): Promise<'removed' | 'deferred'> {
    const manifest = this.get(generationId);
    if (!manifest) throw notFound(generationId);
    if (keepers.some((keeper) => keeper.generationId === generationId))
      throw new AppError('invalid_state', 'cannot delete the generation: a sandbox or a template uses it');
    await this.#labels.change(manifest.sandboxId, (labels) => {
      if (!labels.isForgotten && this.#current(manifest.sandboxId) === generationId)
        throw new AppError(
          'invalid_state',
          'cannot delete the generation: its sandbox resumes from it; rewind to another first',
        );
      return { ...labels, labels: { ...labels.labels, [generationId]: { isPinned: false, isDeleted: true } } };
    });
    await this.collectGarbage(keepers);
    return this.#index.generations.has(generationId) ? 'deferred' : 'removed';
  }

  /** A deleted sandbox: none of its generations is kept for its own sake any more. Others' needs still count. */
  async forgetSandbox(sandboxId: string): Promise<void> {
    await this.#labels.change(sandboxId, () => ({ ...noLabels(), isForgotten: true }));
  }

  /**
   * Removes what nothing needs: beyond each sandbox's newest few, its current and its pinned generations, what `keepers` name (running
   * sandboxes, templates), and whatever any of these reads from. Safe to stop at any point and to run again.
   */
  async collectGarbage(keepers: readonly Keeper[]): Promise<CollectedGarbage> {
    return await this.#locks.run('garbage', async () => {
      // Decided and taken out of the index without an await between: nothing can start to use what is about to be removed.
      const needed = neededParts(this.#index, [...keepers, ...this.#ownKeepers(), ...[...this.#inFlight].flat()]);
      const result: CollectedGarbage = { removed: [], retired: [] };
      const doomed = [...this.#index.generations].filter(([id]) => !needed.whole.has(id));
      const unmerged = [...this.#index.merged.values()].filter(({ storageId }) => !needed.merged.has(storageId));
      const partsOf = (id: string) => [...(needed.parts.get(id) ?? [])].toSorted();
      const remove = doomed.filter(([id]) => partsOf(id).length === 0);
      const retire = doomed.filter(
        ([id, { retired }]) => partsOf(id).length > 0 && retired?.length !== partsOf(id).length,
      );
      for (const [id] of remove) this.#index.generations.delete(id);
      for (const { storageId } of unmerged) this.#index.merged.delete(storageId);
      for (const [id, { manifest }] of retire) this.#index.generations.set(id, { manifest, retired: partsOf(id) });
      for (const merged of unmerged) {
        await this.#removeMerged(merged);
        result.removed.push(merged.storageId);
      }
      for (const [id, { manifest }] of retire) {
        await this.#retire(manifest, partsOf(id));
        result.retired.push(id);
      }
      for (const [id, { manifest }] of remove) {
        const { layout } = this.#deps;
        await this.#removeDirectory(layout.generation(id), layout.generationDraft(id), Object.keys(manifest.parts));
        result.removed.push(id);
      }
      const owners = new Set([...this.#index.generations.values()].map(({ manifest }) => manifest.sandboxId));
      await this.#labels.prune(
        (id) => this.#index.generations.has(id),
        (sandboxId) => owners.has(sandboxId),
      );
      return result;
    });
  }

  /** Generations whose memory is in so many pieces that it is time to merge it. */
  longChains(maxDiffChain: number = sandboxLimits.maxDiffChain): string[] {
    return [...this.#index.generations.values()]
      .filter(({ manifest: { id, memory }, retired }) => {
        const facts = preferredMerged(this.#index, id)?.memory ?? memory;
        return !retired && facts.kind === 'diff' && facts.needs.length + 1 >= maxDiffChain;
      })
      .map(({ manifest }) => manifest.id);
  }

  /** Merges every long chain, one at a time. For a run loop. */
  async mergeLongChains(signal: AbortSignal): Promise<void> {
    for (const id of this.longChains()) {
      signal.throwIfAborted();
      await this.merge(id, 'diff', signal);
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
    const refs = [memory.storage, ...memory.needs];
    const locate = (storageId: string) => this.storagePath(findStorage(refs, storageId)).path;
    const base: MemorySource = { storage, kind: 'full', path: this.storagePath(storage).path, needs: [] };
    return { statePath, base, pages: rangesBeside(storage.storageId, mapping, locate) };
  }

  /** Whether {@link restoreMemory} has an image to start from. */
  canRestore({ memory }: OpenedGeneration): boolean {
    return memory === undefined || memory.kind === 'full' || this.#imageBelow(memory) !== undefined;
  }

  /** The full image among what a diff reads from. There is at most one: a diff's base is an image, or a diff on one. */
  #imageBelow({ needs }: MemorySource): StorageRef | undefined {
    return needs.find((ref) => this.storagePath(ref).facts.kind === 'full');
  }

  /**
   * A memory file that QEMU can map: the generation's own full image, or a merged one, made now if there is none yet. Call it in the
   * background after a pause, so that the resume finds it made. Throws as {@link open} does.
   */
  async ensureFullImage(generationId: string, signal?: AbortSignal): Promise<void> {
    const manifest = this.get(generationId);
    if (!manifest) throw notFound(generationId);
    const facts = preferredMerged(this.#index, generationId)?.memory ?? manifest.memory;
    if (facts.kind === 'diff') await this.merge(generationId, 'full', signal);
  }

  /**
   * Writes a generation's memory anew in one piece, as a full image or as a diff that needs no other file, in a directory of its
   * own; from the rename on it is opened instead of the chain. The generation itself is not touched; what only the chain needed is
   * garbage from then on. A crash at any step leaves the chain in use.
   */
  async merge(generationId: string, form: 'full' | 'diff', signal?: AbortSignal): Promise<void> {
    await this.#locks.run(generationId, async () => {
      const done = preferredMerged(this.#index, generationId)?.memory.kind;
      if (done === 'full' || done === form) return;
      const opened = await this.open(generationId, { need: 'memory', ...(signal ? { signal } : {}) });
      const memory = opened.memory;
      if (!memory || memory.kind === 'full') return;
      const held: Keeper[] = [{ generationId, storageId: memory.storage.storageId }];
      this.#inFlight.add(held);
      try {
        await this.#writeMerged(opened.manifest, memory, form);
      } catch (error) {
        throw fromStorageError(error, 'merge saved memory');
      } finally {
        this.#inFlight.delete(held);
      }
    });
  }

  async #writeMerged(manifest: GenerationManifest, source: MemorySource, form: 'full' | 'diff'): Promise<void> {
    const { layout, faults, clock } = this.#deps;
    const storage: StorageRef = { generationId: manifest.id, storageId: uuidv7(clock.now()) };
    const draft = layout.mergedDraft(storage.generationId, storage.storageId);
    const home = layout.merged(storage.generationId, storage.storageId);
    const part = form === 'full' ? fullMemoryPart : diffMemoryPart;
    try {
      await mkdir(draft, { mode: 0o711 });
      await faults.hit('merge.before-write');
      const { mapping, memoryBytes, generationNumber } = await readDiff(source.path);
      const refs = [source.storage, ...source.needs];
      const locate = (storageId: string) => this.storagePath(findStorage(refs, storageId)).path;
      const target = path.join(draft, part);
      if (form === 'full') await materialise(target, { mapping, memoryBytes }, locate);
      else await mergeDiffs(target, { id: storage.storageId, generationNumber, memoryBytes, mapping }, locate);
      await freezeFile(target, this.#options.readerGid);
      const sealed = await sealPart(target);
      await faults.hit('merge.before-manifest');
      const { bytes, sha256 } = sealed;
      const memory = form === 'full' ? { kind: form, part } : { kind: form, part, needs: [] };
      const createdAt = new Date(clock.now()).toISOString();
      const merged: MergedManifest = { ...storage, createdAt, parts: { [part]: { bytes, sha256 } }, memory };
      await writeDurableFile(path.join(draft, manifestFile), formatManifest('merged', merged));
      await faults.hit('merge.before-rename');
      await rename(draft, home);
      await faults.hit('merge.after-rename');
      await syncDirectory(layout.mergedDirectory);
      this.#verified.remember(path.join(home, part), sealed.stat);
      this.#index.merged.set(storage.storageId, merged);
    } catch (error) {
      await rm(draft, { recursive: true, force: true });
      await rm(home, { recursive: true, force: true });
      throw error;
    }
  }

  /** Where a memory file is, and what its manifest says about it. Throws `integrity` when it is gone. */
  storagePath({ generationId, storageId }: StorageRef): {
    path: string;
    facts: Exclude<MemoryFacts, { kind: 'none' }>;
    part: { bytes: number; sha256: string };
  } {
    const { layout } = this.#deps;
    const isOwn = storageId === generationId;
    const owner = isOwn ? this.#index.generations.get(generationId)?.manifest : this.#index.merged.get(storageId);
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
    const facts = this.#index.generations.get(generationId)?.manifest.parts[part];
    if (!facts) throw new AppError('integrity', `saved file ${generationId}/${part} is missing`);
    await this.#verified.check(path.join(this.#deps.layout.generation(generationId), part), facts, check);
  }

  async #openMemory(manifest: GenerationManifest, check: CheckOptions): Promise<MemorySource & { statePath: string }> {
    const { id: generationId } = manifest;
    await this.#checkPart({ generationId, part: statePart }, check);
    const statePath = path.join(this.#deps.layout.generation(generationId), statePart);
    const merged = preferredMerged(this.#index, generationId);
    if (merged) {
      try {
        return { ...(await this.#openStorage(merged, check)), statePath };
      } catch (error) {
        // The chain it was made from may still be there; if not, its own error says so.
        this.#deps.logger.error(
          { generationId, error: errorText(error) },
          'merged memory is damaged, trying its chain',
        );
        this.#index.merged.delete(merged.storageId);
        await this.#removeMerged(merged);
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
    await this.#verified.check(file, part, check);
    if (facts.kind === 'full') return { storage, kind: 'full', path: file, needs: [] };
    const header = await readDiff(file);
    if (header.id !== storageId) throw new AppError('integrity', `memory diff ${storageId} is that of ${header.id}`);
    for (const ref of facts.needs) {
      const below = this.storagePath(ref);
      await this.#verified.check(below.path, below.part, check);
    }
    return { storage, kind: 'diff', path: file, needs: facts.needs };
  }

  /** Turns what went wrong with a generation into an error that says whether its disk can still be started from. */
  async #explain(generationId: string, error: unknown, check: CheckOptions): Promise<unknown> {
    const isMissing = error instanceof Error && 'code' in error && error.code === 'ENOENT';
    if (!isMissing && !(error instanceof AppError && error.code === 'integrity')) return error;
    let isDiskIntact = true;
    try {
      await this.#openDisk(must(this.get(generationId), 'looked up before'), check);
    } catch {
      isDiskIntact = false;
    }
    const next = isDiskIntact ? 'its disk is intact: start from the disk, or rewind' : 'rewind to another generation';
    const details = {
      ...(error instanceof AppError ? error.details : {}),
      generation_id: generationId,
      disk_intact: isDiskIntact,
    };
    return new AppError('integrity', `cannot restore generation ${generationId}: ${errorText(error)}; ${next}`, {
      details,
      cause: error,
    });
  }

  async #retire(manifest: GenerationManifest, keep: readonly string[]): Promise<void> {
    const directory = this.#deps.layout.generation(manifest.id);
    await this.#deps.faults.hit('gc.before-retire');
    await writeDurableFile(path.join(directory, retiredFile), `${JSON.stringify({ keep })}\n`);
    await this.#deps.faults.hit('gc.after-retire');
    for (const part of Object.keys(manifest.parts)) {
      if (keep.includes(part)) continue;
      this.#verified.forget(path.join(directory, part));
      await rm(path.join(directory, part), { force: true });
    }
  }

  async #removeMerged({ generationId, storageId, parts }: MergedManifest): Promise<void> {
    const { layout } = this.#deps;
    const home = layout.merged(generationId, storageId);
    await this.#removeDirectory(home, layout.mergedDraft(generationId, storageId), Object.keys(parts));
  }

  /** Removes a directory at one instant, by renaming it to a draft; a crash leaves the draft for the next start. */
  async #removeDirectory(home: string, draft: string, parts: readonly string[]): Promise<void> {
    for (const part of parts) this.#verified.forget(path.join(home, part));
    await this.#deps.faults.hit('gc.before-rename');
    await rename(home, draft);
    await syncDirectory(path.dirname(home));
    await this.#deps.faults.hit('gc.before-remove');
    await rm(draft, { recursive: true, force: true });
  }

  /** What sandboxes keep for themselves. */
  #ownKeepers(): Keeper[] {
    const kept = this.#options.keptGenerations ?? sandboxLimits.keptGenerations;
    const owners = [...this.#index.generations.values()].map(({ manifest }) => manifest.sandboxId);
    return [...new Set([...owners, ...this.#labels.sandboxIds()])].flatMap((sandboxId) => {
      const { isForgotten, pointer, labels } = this.#labels.get(sandboxId);
      if (isForgotten) return [];
      const visible = this.#visible(sandboxId);
      const newest = this.#labels.isDamaged(sandboxId) ? visible : visible.slice(-kept);
      const pinned = visible.filter(({ id }) => labels[id]?.isPinned);
      const ids = [...newest, ...pinned].map(({ id }) => id);
      return [...ids, ...(pointer ? [pointer.generationId] : [])].map((generationId) => ({ generationId }));
    });
  }

  /** A sandbox's generations that can be opened and were not deleted, oldest first. */
  #visible(sandboxId: string): GenerationManifest[] {
    const { labels } = this.#labels.get(sandboxId);
    return [...this.#index.generations.values()]
      .filter(
        ({ manifest, retired }) => manifest.sandboxId === sandboxId && !retired && !labels[manifest.id]?.isDeleted,
      )
      .map(({ manifest }) => manifest)
      .toSorted((a, b) => a.number - b.number);
  }

  /** The highest number that a sandbox's generations have had. */
  #lastNumber(sandboxId: string): number {
    const numbers = [...this.#index.generations.values()]
      .filter(({ manifest }) => manifest.sandboxId === sandboxId)
      .map(({ manifest }) => manifest.number);
    return Math.max(0, this.#labels.get(sandboxId).pointer?.sinceNumber ?? 0, ...numbers);
  }

  #current(sandboxId: string): string | undefined {
    const { pointer } = this.#labels.get(sandboxId);
    const newest = this.#visible(sandboxId).at(-1);
    if (pointer && this.get(pointer.generationId) && pointer.sinceNumber >= (newest?.number ?? 0))
      return pointer.generationId;
    return newest?.id;
  }
}

function findStorage(refs: readonly StorageRef[], storageId: string): StorageRef {
  const ref = refs.find((one) => one.storageId === storageId);
  return must(ref, 'a mapping reads only from storages that the manifest names');
}

function notFound(generationId: string): AppError {
  return new AppError('not_found', `there is no generation ${generationId} on this host`, {
    details: { generation_id: generationId },
  });
}
