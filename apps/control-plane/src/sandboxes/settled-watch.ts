import { EventEmitter } from 'node:events';
import { type SandboxId, sandboxStatusTraits, type TeamId } from '@aviary/core';
import type { ServiceContext } from '../context.ts';
import { getSandbox, type SandboxRow } from './sandbox-store.ts';

/** How often a waiter looks for changes that another replica made. */
const lookMs = 250;

/** Waits for sandboxes to settle. Changes of this replica are told by {@link notify}, those of others found by looking. */
export class SettledWatch {
  readonly #emitter = new EventEmitter().setMaxListeners(0);

  notify(id: SandboxId): void {
    this.#emitter.emit(id);
  }

  /**
   * The sandbox once nothing is under way, or as it is after `timeoutMs`. Throws `not_found` as {@link getSandbox} does.
   */
  async wait(
    { database, clock }: Pick<ServiceContext, 'database' | 'clock'>,
    { teamId, id, timeoutMs, signal }: { teamId: TeamId; id: SandboxId; timeoutMs: number; signal?: AbortSignal },
  ): Promise<SandboxRow> {
    const deadline = clock.now() + timeoutMs;
    for (;;) {
      const changed = Promise.withResolvers<void>();
      this.#emitter.once(id, changed.resolve);
      const looked = new AbortController();
      try {
        const row = await getSandbox(database.db, teamId, id);
        const leftMs = deadline - clock.now();
        if (!sandboxStatusTraits[row.status].transitional || leftMs <= 0 || signal?.aborted) return row;
        const pause = clock.sleep(
          Math.min(lookMs, leftMs),
          signal ? AbortSignal.any([signal, looked.signal]) : looked.signal,
        );
        await Promise.race([changed.promise, pause.catch(() => undefined)]);
      } finally {
        looked.abort();
        this.#emitter.off(id, changed.resolve);
      }
    }
  }
}
