import { AppError, errorText } from '@aviary/core';
import { backoffMs, type Clock, type Logger, Semaphore } from '@aviary/service-kit';
import type { NetworkSlot, SlotPool } from './network-slot.ts';
import { maxSlotIndex } from './slot-address.ts';

/** What the pool needs of the kernel. */
export interface SlotBuilder {
  /** Whole or not at all. */
  build(index: number): Promise<NetworkSlot>;
  /** No error when there is nothing. */
  remove(index: number): Promise<void>;
  /** The slot's names and addresses, whether it is built or not. */
  describe(index: number): NetworkSlot;
  isBuilt(index: number): Promise<boolean>;
  /** True when another agent has something of that name. */
  isForeign(index: number): Promise<boolean>;
  /** Every index of which the kernel has anything, other agents' left out. */
  scan(): Promise<number[]>;
}

export interface SlotPoolDeps {
  builder: SlotBuilder;
  /** Sets up what all slots share on the host. Called by `reclaim`. */
  prepareHost: () => Promise<void>;
  clock: Clock;
  logger: Logger;
}

export interface SlotPoolOptions {
  /** Slots kept ready. Default 4. */
  size?: number;
  /** Indices are `firstIndex` … `firstIndex + maxSlots - 1`. Default 1. */
  firstIndex?: number;
  /** Slots in all, used and ready. Default 1 024. */
  maxSlots?: number;
  /** Slots built at the same time. Default 2. */
  buildConcurrency?: number;
  /** How long `acquire` waits for a slot to be built. Default 15 000. */
  acquireTimeoutMs?: number;
}

interface Waiter {
  give(slot: NetworkSlot): void;
  fail(error: unknown): void;
}

/** The pool over a builder. Call `reclaim` first: it prepares the host and starts the filling. */
export class PrebuiltSlotPool implements SlotPool {
  readonly #deps: SlotPoolDeps;
  readonly #options: Required<SlotPoolOptions>;
  readonly #ready: NetworkSlot[] = [];
  /** Given out, or kept for a microVM that runs since before this agent. */
  readonly #used = new Set<number>();
  /** Of those in use, the ones that nobody adopted: kept by `reclaim`, or found to exist when they were to be built. */
  readonly #kept = new Set<number>();
  /** Being built or taken apart: nobody else may touch them. */
  readonly #busy = new Set<number>();
  /** Something may be left in the kernel of these: taken apart before they are built, and tried last. */
  readonly #suspect = new Set<number>();
  readonly #waiters: Waiter[] = [];
  readonly #work = new Set<Promise<void>>();
  readonly #stopping = new AbortController();
  #building = 0;
  #failures = 0;
  #isBackingOff = false;
  #lastError: unknown;

  constructor(deps: SlotPoolDeps, options: SlotPoolOptions = {}) {
    this.#deps = deps;
    this.#options = {
      size: 4,
      firstIndex: 1,
      maxSlots: 1_024,
      buildConcurrency: 2,
      acquireTimeoutMs: 15_000,
      ...options,
    };
    const { size, firstIndex, maxSlots } = this.#options;
    if (firstIndex < 1 || maxSlots < 1 || firstIndex + maxSlots - 1 > maxSlotIndex || size > maxSlots)
      throw new AppError(
        'invalid_request',
        `slot pool of ${size} in ${maxSlots} slots from ${firstIndex} on: indices must lie in 1 to ${maxSlotIndex} and the pool within its slots`,
      );
  }

  get ready(): number {
    return this.#ready.length;
  }

  async acquire(signal?: AbortSignal): Promise<NetworkSlot> {
    signal?.throwIfAborted();
    this.#throwIfStopping();
    const slot = this.#waiters.length === 0 ? this.#ready.shift() : undefined;
    if (slot) {
      this.#used.add(slot.index);
      this.#fill();
      return slot;
    }
    if (this.#used.size + this.#waiters.length >= this.#options.maxSlots)
      throw new AppError('no_capacity', `all ${this.#options.maxSlots} network slots of this host are in use`);
    return this.#waitForSlot(signal);
  }

  async adopt(index: number): Promise<NetworkSlot> {
    if (this.#used.has(index) && !this.#kept.has(index))
      throw new AppError('conflict', `cannot adopt network slot ${index}: it is in use already`);
    if (this.#busy.has(index))
      throw new AppError('conflict', `cannot adopt network slot ${index}: it is being built or taken apart`);
    const slot = this.#deps.builder.describe(index);
    if (!(await this.#deps.builder.isBuilt(index)))
      throw new AppError('not_found', `cannot adopt network slot ${index}: namespace ${slot.namespace} is gone`);
    if (await this.#deps.builder.isForeign(index))
      throw new AppError(
        'conflict',
        `cannot adopt network slot ${index}: ${slot.namespace} belongs to another host agent`,
      );
    const readyAt = this.#ready.findIndex((ready) => ready.index === index);
    if (readyAt >= 0) this.#ready.splice(readyAt, 1);
    this.#used.add(index);
    this.#kept.delete(index);
    return slot;
  }

  async release({ index }: NetworkSlot): Promise<void> {
    if (!this.#used.delete(index))
      throw new AppError('invalid_state', `cannot release network slot ${index}: it is not in use`);
    this.#kept.delete(index);
    // Never handed on as it is: a tap may still be held by a straggler, and connections may linger in the tables.
    await this.#track(this.#takeApart(index));
    this.#fill();
  }

  async reclaim(keep: ReadonlySet<number>): Promise<void> {
    await this.#deps.prepareHost();
    for (const index of keep) {
      if (index < 1 || this.#used.has(index)) continue;
      this.#used.add(index);
      this.#kept.add(index);
    }
    const readyIndices = new Set(this.#ready.map(({ index }) => index));
    const left = (await this.#deps.builder.scan()).filter(
      (index) => !this.#used.has(index) && !readyIndices.has(index) && !this.#busy.has(index),
    );
    const limit = new Semaphore(this.#options.buildConcurrency);
    await Promise.all(left.map((index) => limit.run(() => this.#track(this.#takeApart(index)))));
    if (left.length > 0) this.#deps.logger.info({ slots: left.length }, 'removed network slots of an earlier run');
    this.#fill();
  }

  /** Ends the filling, fails those who wait, and removes the free slots. Slots in use stay: their microVMs outlive the agent. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort();
    const cancelled = new AppError('cancelled', 'cannot get a network slot: the host agent is stopping');
    for (const waiter of this.#waiters.splice(0)) waiter.fail(cancelled);
    while (this.#work.size > 0) await Promise.allSettled(this.#work);
    const removals = await Promise.allSettled(
      this.#ready.splice(0).map(({ index }) => this.#deps.builder.remove(index)),
    );
    const failures = removals.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []));
    if (failures.length > 0) throw new AggregateError(failures, 'cannot remove all free network slots');
  }

  #throwIfStopping(): void {
    if (this.#stopping.signal.aborted)
      throw new AppError('cancelled', 'cannot get a network slot: the host agent is stopping');
  }

  #waitForSlot(signal?: AbortSignal): Promise<NetworkSlot> {
    const { acquireTimeoutMs } = this.#options;
    return new Promise((resolve, reject) => {
      const settled = new AbortController();
      const onAbort = () => waiter.fail(signal?.reason);
      const leave = () => {
        settled.abort();
        signal?.removeEventListener('abort', onAbort);
        const at = this.#waiters.indexOf(waiter);
        if (at >= 0) this.#waiters.splice(at, 1);
      };
      const waiter: Waiter = {
        give: (slot) => {
          leave();
          this.#used.add(slot.index);
          resolve(slot);
        },
        fail: (error) => {
          leave();
          reject(error);
        },
      };
      this.#waiters.push(waiter);
      signal?.addEventListener('abort', onAbort, { once: true });
      void this.#deps.clock.sleep(acquireTimeoutMs, settled.signal).then(
        () => waiter.fail(this.#lateError(acquireTimeoutMs)),
        () => undefined, // settled in time
      );
      this.#fill();
    });
  }

  #lateError(timeoutMs: number): AppError {
    const why = this.#lastError === undefined ? '' : `; the last attempt failed: ${errorText(this.#lastError)}`;
    return new AppError('deadline_exceeded', `no network slot was built within ${timeoutMs} ms${why}`, {
      cause: this.#lastError,
    });
  }

  /** Starts as many builds as are wanted and allowed now. Called whenever one of the counts changes. */
  #fill(): void {
    const { size, buildConcurrency } = this.#options;
    while (!this.#stopping.signal.aborted && !this.#isBackingOff && this.#building < buildConcurrency) {
      if (this.#ready.length + this.#building >= size + this.#waiters.length) return;
      const index = this.#nextIndex();
      if (index === undefined) return;
      this.#busy.add(index);
      this.#building++;
      void this.#track(this.#buildOne(index));
    }
  }

  /** The lowest free index; one that failed before only when there is no other. */
  #nextIndex(): number | undefined {
    const { firstIndex, maxSlots } = this.#options;
    const taken = new Set([...this.#used, ...this.#busy, ...this.#ready.map(({ index }) => index)]);
    let suspect: number | undefined;
    for (let index = firstIndex; index < firstIndex + maxSlots; index++) {
      if (taken.has(index)) continue;
      if (!this.#suspect.has(index)) return index;
      suspect ??= index;
    }
    return suspect;
  }

  async #buildOne(index: number): Promise<void> {
    const { builder } = this.#deps;
    try {
      if (this.#suspect.has(index)) await builder.remove(index);
      const slot = await builder.build(index);
      this.#suspect.delete(index);
      this.#failures = 0;
      this.#lastError = undefined;
      const waiter = this.#waiters.shift();
      if (waiter) waiter.give(slot);
      else this.#ready.push(slot);
    } catch (error) {
      this.#noteFailure(index, error);
    } finally {
      this.#busy.delete(index);
      this.#building--;
    }
    if (this.#lastError !== undefined) void this.#track(this.#backOff());
    else this.#fill();
  }

  #noteFailure(index: number, error: unknown): void {
    const { logger } = this.#deps;
    if (error instanceof AppError && error.code === 'already_exists') {
      // Somebody may live in it: nothing for this pool to take apart, and no reason to wait with the next.
      this.#used.add(index);
      this.#kept.add(index);
      logger.warn({ index, error: error.message }, 'a network slot is taken by somebody else');
      return;
    }
    this.#suspect.add(index);
    this.#failures++;
    this.#lastError = error;
    logger.warn({ index, failures: this.#failures, error: errorText(error) }, 'cannot build a network slot');
  }

  async #backOff(): Promise<void> {
    if (this.#isBackingOff) return;
    this.#isBackingOff = true;
    const delayMs = backoffMs(this.#failures - 1);
    await this.#deps.clock.sleep(delayMs, this.#stopping.signal).catch(() => undefined);
    this.#isBackingOff = false;
    this.#fill();
  }

  /** Never rejects: what could not be removed is set aside and tried again before it is built. */
  async #takeApart(index: number): Promise<void> {
    this.#busy.add(index);
    try {
      await this.#deps.builder.remove(index);
      this.#suspect.delete(index);
    } catch (error) {
      this.#suspect.add(index);
      this.#deps.logger.warn({ index, error: errorText(error) }, 'cannot remove a network slot; trying again later');
    } finally {
      this.#busy.delete(index);
    }
  }

  /** Remembers background work so that disposal waits for it. */
  async #track(work: Promise<void>): Promise<void> {
    this.#work.add(work);
    try {
      await work;
    } finally {
      this.#work.delete(work);
    }
  }
}
