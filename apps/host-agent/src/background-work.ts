import { statfs } from 'node:fs/promises';
import { newId } from '@aviary/core';
import { runLoop } from '@aviary/service-kit';
import { MemorySaver } from './memory-saver.ts';
import { launchOf } from './registry/sandbox-record.ts';
import { GuestWatch } from './sandboxes/guest-watch.ts';
import { pauseSandbox } from './sandboxes/pause-sandbox.ts';
import { Reaper } from './sandboxes/reaper.ts';
import type { SandboxServices } from './sandboxes/sandbox-services.ts';
import { cpuUsedMs } from './vmm/process/process-table.ts';

const warmPoolIntervalMs = 250;
const storeIntervalMs = 30_000;
const memoryIntervalMs = 2_000;
const spaceIntervalMs = 5_000;
/** Each look wakes every guest. */
const lifeIntervalMs = 30_000;

/** What the agent does unasked: pausing the idle, watching guests, filling the warm pool, merging and collecting saved files. */
export class BackgroundWork implements AsyncDisposable {
  readonly #services: SandboxServices;
  readonly #reaperIntervalMs: number;
  readonly #reaper: Reaper;
  readonly #guestWatch: GuestWatch;
  readonly #stop = new AbortController();
  readonly #loops: Promise<void>[] = [];

  constructor(services: SandboxServices, { reaperIntervalMs }: { reaperIntervalMs: number }) {
    this.#services = services;
    this.#reaperIntervalMs = reaperIntervalMs;
    const { registry, logger, layout } = services;
    this.#reaper = new Reaper({
      ...{ registry, logger },
      cpuUsedMs: async ({ record }) => {
        const { run } = launchOf(record);
        return run && cpuUsedMs(run.vmm);
      },
      pause: (sandboxId) => pauseSandbox(services, { sandboxId, operationId: newId('operation'), cause: 'auto_pause' }),
    });
    const freeBytes = async () => {
      const { bavail, bsize } = await statfs(layout.sandboxesDirectory);
      return bavail * bsize;
    };
    this.#guestWatch = new GuestWatch({ registry, logger, freeBytes });
  }

  start(): void {
    const { logger, warmPool, generations, garbage } = this.#services;
    const { signal } = this.#stop;
    const loop = (name: string, intervalMs: number, step: () => Promise<void>) =>
      this.#loops.push(runLoop({ name, intervalMs, logger }, step, signal));
    loop('reaper', this.#reaperIntervalMs, async () => this.#reaper.startRound());
    loop('warm-pool', warmPoolIntervalMs, () => warmPool.fillOnce(signal));
    loop('generations', storeIntervalMs, async () => {
      await generations.mergeLongChains(signal);
      await garbage.collect();
    });
    loop('space', spaceIntervalMs, () => this.#guestWatch.lookForSpace());
    loop('life', lifeIntervalMs, () => this.#guestWatch.lookForLife());
    const memorySaver = new MemorySaver();
    loop('memory', memoryIntervalMs, async () => memorySaver.runOnce());
  }

  /**
   * Stops the loops and cuts short what they can leave to the next agent; a pause that has begun is let end. Then ends the warm
   * microVMs: those belong to no one.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error('the host agent stops'));
    await Promise.allSettled([...this.#loops, this.#reaper[Symbol.asyncDispose]()]);
    await this.#services.warmPool.drain();
  }
}
