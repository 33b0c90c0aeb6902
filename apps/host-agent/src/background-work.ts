import { statfs } from 'node:fs/promises';
import { errorText, type GenerationId, newId } from '@aviary/core';
import { runLoop, Semaphore } from '@aviary/service-kit';
import type { Keeper } from './generations/needed-parts.ts';
import { MemorySaver } from './memory-saver.ts';
import { GuestWatch } from './sandboxes/guest-watch.ts';
import { pauseSandbox } from './sandboxes/pause-sandbox.ts';
import { Reaper } from './sandboxes/reaper.ts';
import type { SandboxContext } from './sandboxes/sandbox-context.ts';
import { cpuUsedMs } from './vmm/process/process-table.ts';

const warmPoolIntervalMs = 250;
const storeIntervalMs = 30_000;
const memoryIntervalMs = 2_000;
const spaceIntervalMs = 5_000;
/** Each look wakes every guest. */
const lifeIntervalMs = 30_000;

/** Everything on this host that needs saved files besides the store's own rules: running sandboxes, templates, boot snapshots. */
export function keepersOf({ registry, templates, bootSnapshots }: SandboxContext): Keeper[] {
  const running = registry.list().flatMap(({ record }): Keeper[] => {
    const keepers: Keeper[] = [];
    if (record.generationId) keepers.push({ generationId: record.generationId });
    if (record.diskGenerationId) keepers.push({ generationId: record.diskGenerationId });
    if (record.memory?.mapping === 'private') keepers.push(record.memory.source.storage);
    return keepers;
  });
  return [...running, ...templates.keepers(), ...bootSnapshots.keepers()];
}

/** What the agent does unasked: pausing the idle, filling the warm pool, merging and collecting saved files. */
export class BackgroundWork implements AsyncDisposable {
  readonly #context: SandboxContext;
  readonly #reaperIntervalMs: number;
  readonly #reaper: Reaper;
  readonly #guestWatch: GuestWatch;
  readonly #stop = new AbortController();
  readonly #loops: Promise<void>[] = [];
  readonly #preparations = new Set<Promise<void>>();
  readonly #preparing = new Semaphore(1);

  constructor(context: SandboxContext, { reaperIntervalMs }: { reaperIntervalMs: number }) {
    this.#context = context;
    this.#reaperIntervalMs = reaperIntervalMs;
    const freeBytes = async () => {
      const { bavail, bsize } = await statfs(context.layout.sandboxesDirectory);
      return bavail * bsize;
    };
    this.#guestWatch = new GuestWatch({ ...context, freeBytes });
    this.#reaper = new Reaper({
      ...context,
      cpuUsedMs: async ({ record: { vmm } }) => (vmm ? cpuUsedMs(vmm) : undefined),
      pause: (sandboxId) => pauseSandbox(context, { sandboxId, operationId: newId('operation'), cause: 'auto_pause' }),
    });
  }

  start(): void {
    const { logger, warmPool, generations } = this.#context;
    const { signal } = this.#stop;
    const loop = (name: string, intervalMs: number, step: () => Promise<void>) =>
      this.#loops.push(runLoop({ name, intervalMs, logger }, step, signal));
    loop('reaper', this.#reaperIntervalMs, async () => {
      // Not awaited: one slow pause must not keep the next ones waiting.
      void this.#reaper.runOnce();
    });
    loop('warm-pool', warmPoolIntervalMs, () => warmPool.fillOnce(this.#context));
    loop('generations', storeIntervalMs, async () => {
      await generations.mergeLongChains(signal);
      await this.#context.collectGarbage();
    });
    loop('space', spaceIntervalMs, () => this.#guestWatch.lookForSpace());
    loop('life', lifeIntervalMs, () => this.#guestWatch.lookForLife());
    const memorySaver = new MemorySaver();
    loop('memory', memoryIntervalMs, async () => memorySaver.runOnce());
  }

  /** Puts a generation's memory into one image, so that its resume need not wait for it. */
  prepareResume(generationId: GenerationId | undefined): void {
    const { generations, logger } = this.#context;
    if (generationId === undefined || this.#stop.signal.aborted) return;
    const work = this.#preparing
      .run(() => generations.ensureFullImage(generationId, this.#stop.signal))
      .catch((error: unknown) => {
        if (!this.#stop.signal.aborted)
          logger.warn(
            { generationId, error: errorText(error) },
            'cannot prepare a resume; it will be done when it resumes',
          );
      })
      .finally(() => this.#preparations.delete(work));
    this.#preparations.add(work);
  }

  /** Stops the loops, finishes or drops what is under way, and ends the warm microVMs: those belong to no one. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error('the host agent stops'));
    await Promise.allSettled([...this.#loops, ...this.#preparations]);
    await this.#context.warmPool.drain(this.#context);
  }
}
