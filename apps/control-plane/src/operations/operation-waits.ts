import { AppError, type OperationId, type TeamId } from '@aviary/core';
import type { ServiceContext } from '../context.ts';
import { findOperation, type OperationRow, settledChannel } from './operation-store.ts';

/** A waiter looks this often by itself, in case a notice was lost. */
const safetyLookMs = 5_000;

type Deps = Pick<ServiceContext, 'database' | 'clock' | 'logger'>;

/** Waits for operations to end, whichever replica carries them out: their rows say when, and the store tells to look. */
export class OperationWaits {
  readonly #deps: Deps;
  readonly #waiting = new Map<string, Set<() => void>>();

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /** Hears of ended operations until `signal` aborts; one connection for all who wait here. */
  run(signal: AbortSignal): Promise<void> {
    const { database, logger } = this.#deps;
    return database.listen(
      settledChannel,
      {
        onNotice: (id) => this.#wake(id),
        onGap: () => {
          for (const id of [...this.#waiting.keys()]) this.#wake(id);
        },
        onError: (error) => logger.warn({ err: error }, 'notices of ended operations are interrupted'),
      },
      signal,
    );
  }

  /** The operation once it has ended, or as it is after `timeoutMs` or when `signal` aborts. Throws `not_found`. */
  async wait(
    teamId: TeamId,
    id: OperationId,
    { timeoutMs, signal }: { timeoutMs: number; signal?: AbortSignal },
  ): Promise<OperationRow> {
    const { database, clock } = this.#deps;
    const deadline = clock.now() + timeoutMs;
    for (;;) {
      // Listens before it looks: what ends in between is heard.
      const settled = Promise.withResolvers<void>();
      const stop = this.#listen(id, settled.resolve);
      const woken = new AbortController();
      try {
        const row = await findOperation(database.db, teamId, id);
        if (!row) throw noSuchOperation();
        const leftMs = deadline - clock.now();
        if (row.state !== 'running' || leftMs <= 0 || signal?.aborted) return row;
        const pause = clock.sleep(
          Math.min(safetyLookMs, leftMs),
          signal ? AbortSignal.any([signal, woken.signal]) : woken.signal,
        );
        await Promise.race([settled.promise, pause.catch(() => undefined)]);
      } finally {
        woken.abort();
        stop();
      }
    }
  }

  #listen(id: string, wake: () => void): () => void {
    const waiting = this.#waiting.get(id) ?? new Set();
    this.#waiting.set(id, waiting.add(wake));
    return () => {
      waiting.delete(wake);
      if (waiting.size === 0 && this.#waiting.get(id) === waiting) this.#waiting.delete(id);
    };
  }

  #wake(id: string): void {
    for (const wake of this.#waiting.get(id) ?? []) wake();
  }
}

export function noSuchOperation(): AppError {
  return new AppError('not_found', 'there is no such operation; those that ended are kept for a week');
}
