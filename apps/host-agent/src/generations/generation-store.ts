import { mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { AppError, errorText, parseSafeName, sandboxLimits, uuidv7 } from '@aviary/core';
import { type Clock, type FaultPoints, fromNodeError, KeyedLock, type Logger } from '@aviary/service-kit';
import type { HostLayout } from '../layout.ts';
import { GenerationDraft } from './generation-draft.ts';
import { type GenerationIndex, loadIndex } from './generation-index.ts';
import { LabelBook, noLabels } from './generation-labels.ts';
import { GenerationReader, type OpenedGeneration, type RestoreMemory } from './generation-reader.ts';
import { GenerationRemover } from './generation-remover.ts';
import type { GenerationManifest, StorageRef } from './manifest.ts';
import { type GcRoot, neededParts, preferredMerged } from './needed-parts.ts';
import { type GenerationNode, SandboxGenerations } from './sandbox-generations.ts';
import { type CheckOptions, VerifiedParts } from './verified-parts.ts';
import { writeMerged } from './write-merged.ts';

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

export interface CollectedGarbage {
  /** Generations and merged forms removed whole. */
  removed: string[];
  /** Generations of which only parts that others read are left. */
  retired: string[];
  /** What could not be removed or retired, with the reason in the log. It is out of use, and the next collection tries it again. */
  failed: string[];
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
  readonly #sandboxes: SandboxGenerations;
  readonly #remover: GenerationRemover;
  readonly #reader: GenerationReader;
  /** What drafts, merges and openings under way read from: kept whatever the garbage-collection roots say. */
  readonly #inFlight = new Set<readonly GcRoot[]>();
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
    const verified = this.#verified;
    this.#sandboxes = new SandboxGenerations({ index, labels }, options);
    this.#remover = new GenerationRemover({ ...deps, verified });
    this.#reader = new GenerationReader({
      ...deps,
      index,
      verified,
      dropMerged: async (merged) => {
        index.merged.delete(merged.storageId);
        await this.#remover.removeMerged(merged);
      },
    });
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
  async begin(sandboxId: string, reads: readonly GcRoot[] = []): Promise<GenerationDraft> {
    const { layout, faults, clock } = this.#deps;
    const number = 1 + Math.max(this.#sandboxes.lastNumber(sandboxId), this.#givenNumbers.get(sandboxId) ?? 0);
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
    options: { need: 'memory' | 'disk' } & CheckOptions = { need: 'memory' },
  ): Promise<OpenedGeneration> {
    const manifest = this.get(generationId);
    if (!manifest) throw notFound(generationId);
    const held: GcRoot[] = [{ generationId }];
    this.#inFlight.add(held);
    try {
      return await this.#reader.open(manifest, options);
    } finally {
      this.#inFlight.delete(held);
    }
  }

  /** Keeps saved files, whoever else lets go of them, until disposed of: for work that goes on after {@link open}. */
  hold(...held: readonly GcRoot[]): Disposable {
    this.#inFlight.add(held);
    return { [Symbol.dispose]: () => void this.#inFlight.delete(held) };
  }

  /** Reads every byte of a generation and of what it needs, trusting nothing. Throws as {@link open} does. */
  async verify(generationId: string, signal?: AbortSignal): Promise<void> {
    await this.open(generationId, { need: 'memory', isThorough: true, ...(signal ? { signal } : {}) });
  }

  /** A sandbox's generations as trees, oldest first. Parents that are gone are skipped over. */
  list(sandboxId: string): GenerationNode[] {
    return this.#sandboxes.list(sandboxId);
  }

  /** The generation that a sandbox resumes from: where it was last put, or the newest since. */
  current(sandboxId: string): string | undefined {
    return this.#sandboxes.current(sandboxId);
  }

  /** Puts a sandbox on a generation: an older one of its own (rewind), or another's (fork). */
  async setCurrent(sandboxId: string, generationId: string): Promise<void> {
    if (!this.get(generationId)) throw notFound(generationId);
    await this.#labels.change(sandboxId, (labels) => ({
      ...labels,
      pointer: { generationId, sinceNumber: this.#sandboxes.lastNumber(sandboxId) },
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
   * for the one that the sandbox would resume from, or that a root names.
   */
  async delete(generationId: string, gcRoots: readonly GcRoot[]): Promise<'removed' | 'deferred'> {
    const manifest = this.get(generationId);
    if (!manifest) throw notFound(generationId);
    if (gcRoots.some((root) => root.generationId === generationId))
      throw new AppError('invalid_state', 'cannot delete the generation: a sandbox or a template uses it');
    await this.#labels.change(manifest.sandboxId, (labels) => {
      if (!labels.isForgotten && this.#sandboxes.current(manifest.sandboxId) === generationId)
        throw new AppError(
          'invalid_state',
          'cannot delete the generation: its sandbox resumes from it; rewind to another first',
        );
      return { ...labels, labels: { ...labels.labels, [generationId]: { isPinned: false, isDeleted: true } } };
    });
    await this.collectGarbage(gcRoots);
    return this.#index.generations.has(generationId) ? 'deferred' : 'removed';
  }

  /** Takes back a generation that was committed a moment ago and that nobody has heard of. */
  async withdraw(manifest: GenerationManifest): Promise<void> {
    await this.#locks.run('garbage', async () => {
      if (!this.#index.generations.delete(manifest.id)) return;
      await this.#remover.removeGeneration(manifest);
    });
  }

  /** A deleted sandbox: none of its generations is kept for its own sake any more. Others' needs still count. */
  async forgetSandbox(sandboxId: string): Promise<void> {
    await this.#labels.change(sandboxId, () => ({ ...noLabels(), isForgotten: true }));
  }

  /**
   * Removes what nothing needs: beyond each sandbox's newest few, its current and its pinned generations, what `gcRoots` name (running
   * sandboxes, templates), and whatever any of these reads from. Safe to stop at any point and to run again. One file that cannot be
   * removed, on a full disk above all, keeps no other from it.
   */
  async collectGarbage(gcRoots: readonly GcRoot[]): Promise<CollectedGarbage> {
    return await this.#locks.run('garbage', async () => {
      // Decided and taken out of the index without an await between: nothing can start to use what is about to be removed.
      const needed = neededParts(this.#index, [
        ...gcRoots,
        ...this.#sandboxes.gcRoots(),
        ...[...this.#inFlight].flat(),
      ]);
      const result: CollectedGarbage = { removed: [], retired: [], failed: [] };
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
      // Put back as one that cannot be opened and still has everything, so that the next collection sees that there is work.
      const putBack = (manifest: GenerationManifest) =>
        this.#index.generations.set(manifest.id, { manifest, retired: Object.keys(manifest.parts) });
      // Whole removals first: on a full disk they make the room that a retirement needs.
      const steps = [
        ...unmerged.map((merged) => ({
          ...{ id: merged.storageId, done: result.removed },
          run: () => this.#remover.removeMerged(merged),
          undo: () => this.#index.merged.set(merged.storageId, merged),
        })),
        ...remove.map(([id, { manifest }]) => ({
          ...{ id, done: result.removed },
          run: () => this.#remover.removeGeneration(manifest),
          undo: () => putBack(manifest),
        })),
        ...retire.map(([id, { manifest }]) => ({
          ...{ id, done: result.retired },
          run: () => this.#remover.retire(manifest, partsOf(id)),
          undo: () => putBack(manifest),
        })),
      ];
      for (const { id, done, run, undo } of steps) {
        try {
          await run();
          done.push(id);
        } catch (error) {
          undo();
          result.failed.push(id);
          this.#deps.logger.warn({ id, error: errorText(error) }, 'cannot remove saved files yet');
        }
      }
      const owners = new Set([...this.#index.generations.values()].map(({ manifest }) => manifest.sandboxId));
      const hasGeneration = (id: string) => this.#index.generations.has(id);
      await this.#labels
        .prune(hasGeneration, (sandboxId) => owners.has(sandboxId))
        .catch((error: unknown) =>
          this.#deps.logger.warn({ error: errorText(error) }, 'cannot drop labels of removed generations yet'),
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
   * What to map and what to write over it: the full image that an opened generation's diffs lie on, and the diffs' pages. Throws
   * `invalid_state` when there is no memory, or no image below it: {@link ensureFullImage} makes one.
   */
  restoreMemory(opened: OpenedGeneration): Promise<RestoreMemory> {
    return this.#reader.restoreMemory(opened);
  }

  /** Where a memory file is. Throws `integrity` when it is gone. */
  storagePath(storage: StorageRef): string {
    return this.#reader.storagePath(storage).path;
  }

  /**
   * The kernel's records of the files that a microVM restored from it goes on reading. Another answer later means that one of them was touched;
   * undefined, that one is not what was checked when it was opened.
   */
  restoredRecord(opened: OpenedGeneration): Promise<string | undefined> {
    return this.#reader.restoredRecord(opened);
  }

  /** Whether {@link restoreMemory} has an image to start from. */
  canRestore(opened: OpenedGeneration): boolean {
    return this.#reader.canRestore(opened);
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
      const held: GcRoot[] = [{ generationId, storageId: memory.storage.storageId }];
      this.#inFlight.add(held);
      try {
        const { merged, file, stat } = await writeMerged(
          { ...this.#deps, readerGid: this.#options.readerGid },
          { generationId, source: memory, form },
          this.#reader.locator(memory),
        );
        this.#verified.remember(file, stat);
        this.#index.merged.set(merged.storageId, merged);
      } catch (error) {
        throw fromNodeError(error, 'merge saved memory');
      } finally {
        this.#inFlight.delete(held);
      }
    });
  }
}

function notFound(generationId: string): AppError {
  return new AppError('not_found', `there is no generation ${generationId} on this host`, {
    details: { generation_id: generationId },
  });
}
