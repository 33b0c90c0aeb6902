import { AppError, errorText, type GenerationId } from '@aviary/core';
import type { OpenedGeneration } from '../generations/generation-reader.ts';
import { warmUp } from '../guest/warm-up.ts';
import { releaseSandbox } from './destroy-sandbox.ts';
import { newInternalRecord } from './new-record.ts';
import { openForRestore } from './resume-sandbox.ts';
import type { SandboxContext, WarmMicroVms, WarmSandbox } from './sandbox-context.ts';
import { restoreMicroVm } from './start-micro-vm.ts';

/** How long nothing may have been created before the pool is filled: filling must not slow down a burst of creates. */
const quietMs = 500;
/** Templates and sizes that the pool keeps microVMs for: the most recently used ones. */
const maxGenerations = 2;

interface Entry {
  warm: WarmSandbox;
  /** What it was restored from, and the kernel's record of that (`GenerationStore.restoredRecord`) before it was. */
  generation: OpenedGeneration;
  imageRecord: string;
}

/**
 * MicroVMs that were restored before anybody asked, ran one command to warm up, and stand still since. Taking one spares the start
 * of a VMM and the first, slow steps of a restored guest. They are anonymous; whoever takes one gives it an identity.
 */
export class WarmPool implements WarmMicroVms {
  readonly #size: number;
  /** By boot snapshot, the most recently used last. */
  readonly #ready = new Map<GenerationId, Entry[]>();
  #lastUseMs = 0;
  #activeStarts = 0;

  constructor({ size }: { size: number }) {
    this.#size = size;
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
    this.#lastUseMs = performance.now();
  }

  /**
   * Takes a warm microVM of this snapshot, if there is one. The taker owns it, and all it holds. One whose image was touched since it was restored may have
   * read something else than what was saved: it is discarded.
   */
  async take(context: SandboxContext, generationId: GenerationId): Promise<WarmSandbox | undefined> {
    this.want(generationId);
    const entries = this.#ready.get(generationId);
    for (let entry = entries?.shift(); entry; entry = entries?.shift()) {
      if ((await context.generations.restoredRecord(entry.generation)) === entry.imageRecord) return entry.warm;
      context.logger.error({ generationId }, 'the image of a warm microVM was changed, discarding the microVM');
      void release(context, entry.warm);
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
      this.#lastUseMs = performance.now();
    }
  }

  /** Adds at most one microVM where one is missing, when the host is quiet. For a run loop. */
  async fillOnce(context: SandboxContext): Promise<void> {
    await this.#trim(context);
    if (this.#activeStarts > 0 || performance.now() - this.#lastUseMs < quietMs) return;
    for (const [generationId, entries] of [...this.#ready].reverse()) {
      if (entries.length >= this.#size) continue;
      const entry = await this.#make(context, generationId);
      if (!entry) continue;
      entries.push(entry);
      context.logger.info({ generationId }, 'a microVM stands ready');
      void entry.warm.running.vm.exited.then(() => this.#drop(context, generationId, entry));
      return;
    }
  }

  /** Undefined when the snapshot is of no use any more: it is dropped, and the next create makes a new one. */
  async #make(context: SandboxContext, generationId: GenerationId): Promise<Entry | undefined> {
    try {
      return await makeWarm(context, generationId);
    } catch (error) {
      if (!(error instanceof AppError) || (error.code !== 'integrity' && error.code !== 'not_found')) throw error;
      context.logger.error({ generationId, error: errorText(error) }, 'boot snapshot is damaged, dropping it');
      const entries = this.#ready.get(generationId) ?? [];
      this.#ready.delete(generationId);
      await context.bootSnapshots.drop(context, generationId);
      for (const { warm } of entries) await release(context, warm);
      return undefined;
    }
  }

  /** Ends all warm microVMs. */
  async drain(context: SandboxContext): Promise<void> {
    const all = [...this.#ready.values()].flat();
    this.#ready.clear();
    await Promise.all(all.map(({ warm }) => releaseSandbox(context, warm)));
  }

  /** Lets go of snapshots that were not used for longest. */
  async #trim(context: SandboxContext): Promise<void> {
    while (this.#ready.size > maxGenerations) {
      const [oldest] = this.#ready;
      if (!oldest) return;
      this.#ready.delete(oldest[0]);
      for (const { warm } of oldest[1]) await releaseSandbox(context, warm);
    }
  }

  async #drop(context: SandboxContext, generationId: GenerationId, entry: Entry): Promise<void> {
    const entries = this.#ready.get(generationId) ?? [];
    const index = entries.indexOf(entry);
    if (index < 0) return;
    entries.splice(index, 1);
    await release(context, entry.warm);
  }
}

/** Never rejects: what cannot be released now is when the agent starts again. */
async function release(context: SandboxContext, warm: WarmSandbox): Promise<void> {
  await releaseSandbox(context, warm).catch((error: unknown) =>
    context.logger.warn({ error: errorText(error) }, 'cannot release a warm microVM'),
  );
}

/** Restores an anonymous guest, lets it answer a command, and stops its vCPUs. */
async function makeWarm(context: SandboxContext, generationId: GenerationId): Promise<Entry> {
  const { registry, generations } = context;
  const generation = await openForRestore(context, generationId);
  const imageRecord = await generations.restoredRecord(generation);
  if (imageRecord === undefined)
    throw new AppError('conflict', `cannot keep microVMs of generation ${generationId} ready: its files change`);
  const sandbox = registry.add(newInternalRecord(context, generation.manifest));
  try {
    await restoreMicroVm(context, sandbox, generation);
    const warm = sandbox as WarmSandbox;
    await warmUp(warm.running.guest);
    warm.running.guest.closeConnections();
    await warm.running.vm.pause();
    return { warm, generation, imageRecord };
  } catch (error) {
    await releaseSandbox(context, sandbox);
    throw error;
  }
}
