import { errorText, type GenerationId } from '@aviary/core';
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

/**
 * MicroVMs that were restored before anybody asked, ran one command to warm up, and stand still since. Taking one spares the start
 * of a VMM and the first, slow steps of a restored guest. They are anonymous; whoever takes one gives it an identity.
 */
export class WarmPool implements WarmMicroVms {
  readonly #size: number;
  /** By boot snapshot, the most recently used last. */
  readonly #ready = new Map<GenerationId, WarmSandbox[]>();
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

  /** Takes a warm microVM of this snapshot, if there is one. The taker owns it, and all it holds. */
  take(generationId: GenerationId): WarmSandbox | undefined {
    this.want(generationId);
    return this.#ready.get(generationId)?.shift();
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
      const warm = await makeWarm(context, generationId);
      entries.push(warm);
      void warm.running.vm.exited.then(() => this.#drop(context, generationId, warm));
      return;
    }
  }

  /** Ends all warm microVMs. */
  async drain(context: SandboxContext): Promise<void> {
    const all = [...this.#ready.values()].flat();
    this.#ready.clear();
    await Promise.all(all.map((warm) => releaseSandbox(context, warm)));
  }

  /** Lets go of snapshots that were not used for longest. */
  async #trim(context: SandboxContext): Promise<void> {
    while (this.#ready.size > maxGenerations) {
      const [oldest] = this.#ready;
      if (!oldest) return;
      this.#ready.delete(oldest[0]);
      for (const warm of oldest[1]) await releaseSandbox(context, warm);
    }
  }

  async #drop(context: SandboxContext, generationId: GenerationId, warm: WarmSandbox): Promise<void> {
    const entries = this.#ready.get(generationId) ?? [];
    const index = entries.indexOf(warm);
    if (index < 0) return;
    entries.splice(index, 1);
    await releaseSandbox(context, warm).catch((error: unknown) =>
      context.logger.warn({ error: errorText(error) }, 'cannot release a warm microVM'),
    );
  }
}

/** Restores an anonymous guest, lets it answer a command, and stops its vCPUs. */
async function makeWarm(context: SandboxContext, generationId: GenerationId): Promise<WarmSandbox> {
  const { registry } = context;
  const generation = await openForRestore(context, generationId);
  const sandbox = registry.add(newInternalRecord(context, generation.manifest));
  try {
    await restoreMicroVm(context, sandbox, generation);
    const warm = sandbox as WarmSandbox;
    await warmUp(warm.running.guest);
    warm.running.guest.closeConnections();
    await warm.running.vm.pause();
    return warm;
  } catch (error) {
    await releaseSandbox(context, sandbox);
    throw error;
  }
}
