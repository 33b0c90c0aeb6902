import { AppError, errorText, type GenerationId } from '@aviary/core';
import type { OpenedGeneration } from '../generations/generation-reader.ts';
import { warmUp } from '../guest/warm-up.ts';
import type { RecordIn, Run } from '../registry/sandbox-record.ts';
import type { RunningParts, Sandbox } from '../registry/sandbox-registry.ts';
import type { BootSnapshots } from './boot-snapshots.ts';
import { newInternalRecord } from './new-record.ts';
import { openForRestore } from './open-for-restore.ts';
import { releaseSandbox } from './release-sandbox.ts';
import type { StartDeps } from './start-deps.ts';
import { restoreMicroVm } from './start-micro-vm.ts';

/** How long nothing may have been created before the pool is filled: filling must not slow down a burst of creates. */
const quietMs = 500;
/** Templates and sizes that the pool keeps microVMs for: the most recently used ones. */
const maxGenerations = 2;

/** A sandbox that nobody has asked for yet, with a guest that stands still. */
export type WarmSandbox = Sandbox & {
  readonly record: RecordIn<'starting'> & { launch: { run: Run } };
  running: RunningParts;
};

export interface WarmEntry {
  warm: WarmSandbox;
  /** What it was restored from, and the kernel's record of that (`GenerationStore.restoredRecord`) before it was. */
  generation: OpenedGeneration;
  imageRecord: string;
}

/**
 * MicroVMs that were restored before anybody asked, ran one command to warm up, and stand still since. Taking one spares the start
 * of a VMM and the first, slow steps of a restored guest. They are anonymous; whoever takes one gives it an identity.
 */
export class WarmPool {
  readonly #deps: WarmPoolDeps;
  readonly #size: number;
  readonly #make: MakeWarm;
  readonly #now: () => number;
  /** By boot snapshot, the most recently used last. */
  readonly #ready = new Map<GenerationId, WarmEntry[]>();
  #lastUseMs = Number.NEGATIVE_INFINITY;
  #activeStarts = 0;

  constructor(deps: WarmPoolDeps, { size, make = makeWarm, now = () => performance.now() }: WarmPoolOptions) {
    this.#deps = deps;
    this.#size = size;
    this.#make = make;
    this.#now = now;
  }

  /** MicroVMs standing ready. */
  get ready(): number {
    return [...this.#ready.values()].reduce((sum, entries) => sum + entries.length, 0);
  }

  /** Notes that sandboxes start from this snapshot: microVMs of it are kept ready from now on. */
  want(generationId: GenerationId): void {
    const entries = this.#ready.get(generationId) ?? [];
    this.#ready.delete(generationId);
    this.#ready.set(generationId, entries);
    this.#lastUseMs = this.#now();
  }

  /**
   * Takes a warm microVM of this snapshot, if there is one. The taker owns it, and all it holds. One whose image was touched since it
   * was restored may have read something else than what was saved: it is discarded.
   */
  async take(generationId: GenerationId): Promise<WarmSandbox | undefined> {
    const { generations, logger } = this.#deps;
    this.want(generationId);
    const entries = this.#ready.get(generationId);
    for (let entry = entries?.shift(); entry; entry = entries?.shift()) {
      if ((await generations.restoredRecord(entry.generation)) === entry.imageRecord) return entry.warm;
      logger.error({ generationId }, 'the image of a warm microVM was changed, discarding the microVM');
      void this.#release(entry.warm);
    }
    return undefined;
  }

  /** Marks a start under way: the pool is not filled meanwhile. */
  async duringStart<T>(work: () => Promise<T>): Promise<T> {
    this.#activeStarts++;
    try {
      return await work();
    } finally {
      this.#activeStarts--;
      this.#lastUseMs = this.#now();
    }
  }

  /**
   * Adds at most one microVM where one is missing, when the host is quiet. For a run loop. Cut short by `signal`: then what was being
   * made is released before this ends.
   */
  async fillOnce(signal: AbortSignal): Promise<void> {
    await this.#trim();
    if (this.#activeStarts > 0 || this.#now() - this.#lastUseMs < quietMs) return;
    for (const [generationId, entries] of [...this.#ready].reverse()) {
      if (entries.length >= this.#size) continue;
      const entry = await this.#makeOrDrop(generationId, signal);
      if (!entry) continue;
      entries.push(entry);
      this.#deps.logger.info({ generationId }, 'a microVM stands ready');
      void entry.warm.running.vm.exited.then(() => this.#drop(generationId, entry));
      return;
    }
  }

  /** Undefined when the snapshot is of no use any more: it is dropped, and the next create makes a new one. */
  async #makeOrDrop(generationId: GenerationId, signal: AbortSignal): Promise<WarmEntry | undefined> {
    const { bootSnapshots, logger } = this.#deps;
    try {
      return await this.#make(this.#deps, generationId, signal);
    } catch (error) {
      if (!(error instanceof AppError) || (error.code !== 'integrity' && error.code !== 'not_found')) throw error;
      logger.error({ generationId, error: errorText(error) }, 'boot snapshot is damaged, dropping it');
      const entries = this.#ready.get(generationId) ?? [];
      this.#ready.delete(generationId);
      await bootSnapshots.drop(generationId);
      for (const { warm } of entries) await this.#release(warm);
      return undefined;
    }
  }

  /** Ends all warm microVMs. To be called when nothing fills the pool any more. */
  async drain(): Promise<void> {
    const all = [...this.#ready.values()].flat();
    this.#ready.clear();
    await Promise.all(all.map(({ warm }) => this.#release(warm)));
  }

  /** Lets go of snapshots that were not used for longest. */
  async #trim(): Promise<void> {
    while (this.#ready.size > maxGenerations) {
      const [oldest] = this.#ready;
      if (!oldest) return;
      this.#ready.delete(oldest[0]);
      for (const { warm } of oldest[1]) await this.#release(warm);
    }
  }

  async #drop(generationId: GenerationId, entry: WarmEntry): Promise<void> {
    const entries = this.#ready.get(generationId) ?? [];
    const index = entries.indexOf(entry);
    if (index < 0) return;
    entries.splice(index, 1);
    await this.#release(entry.warm);
  }

  /** Never rejects: what cannot be released now is when the agent starts again. */
  async #release(warm: WarmSandbox): Promise<void> {
    await releaseSandbox(this.#deps, warm).catch((error: unknown) =>
      this.#deps.logger.warn({ error: errorText(error) }, 'cannot release a warm microVM'),
    );
  }
}

export type WarmPoolDeps = StartDeps & { bootSnapshots: Pick<BootSnapshots, 'drop'> };

export interface WarmPoolOptions {
  /** MicroVMs kept ready per snapshot. */
  size: number;
  /** Makes one; for tests. */
  make?: MakeWarm;
  /** A clock that nobody sets, milliseconds. */
  now?: () => number;
}

type MakeWarm = (deps: StartDeps, generationId: GenerationId, signal: AbortSignal) => Promise<WarmEntry>;

/** Restores an anonymous guest, lets it answer a command, and stops its vCPUs. Leaves nothing when it fails or is aborted. */
async function makeWarm(deps: StartDeps, generationId: GenerationId, signal: AbortSignal): Promise<WarmEntry> {
  const { registry, generations } = deps;
  const generation = await openForRestore(deps, generationId);
  const imageRecord = await generations.restoredRecord(generation);
  if (imageRecord === undefined)
    throw new AppError('conflict', `cannot keep microVMs of generation ${generationId} ready: its files change`);
  signal.throwIfAborted();
  const sandbox = registry.add(newInternalRecord(deps, generation.manifest));
  try {
    await restoreMicroVm(deps, sandbox, generation, { signal });
    const warm = sandbox as WarmSandbox;
    await warmUp(warm.running.guest);
    signal.throwIfAborted();
    warm.running.guest.closeConnections();
    await warm.running.vm.pause();
    return { warm, generation, imageRecord };
  } catch (error) {
    await releaseSandbox(deps, sandbox);
    throw error;
  }
}
