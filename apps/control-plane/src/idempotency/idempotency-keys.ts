import { runLoop } from '@aviary/service-kit';
import type { ServiceContext } from '../context.ts';
import { claimKey, type KeyedRequest, type KeyLease, releaseKey, renewKeys, storeReply } from './key-store.ts';

/** A replica that is silent for this long has lost the requests that it was at: their keys are free again. */
const leaseTtlMs = 60_000;
/** Larger answers are not kept: a repeat is refused instead of being run again. */
const maxStoredBytes = 1024 * 1024;

type Deps = Pick<ServiceContext, 'database' | 'clock' | 'logger' | 'replicaId'>;

/** The keys of requests whose work is not one transaction: claimed before, answered after, free again when the replica dies. */
export class IdempotencyKeys {
  readonly #deps: Deps;
  readonly #underWay = new Set<KeyedRequest>();

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /** Runs `work` once per key, and gives repeats its answer. A failure gives the key back. */
  async runOnce(
    keyed: KeyedRequest,
    work: () => Promise<{ status: number; body: unknown }>,
  ): Promise<{ status: number; body: unknown; isReplay: boolean }> {
    const { database, logger, replicaId } = this.#deps;
    const { db } = database;
    const known = await claimKey(db, keyed, this.#lease);
    if (known) return { status: known.status, body: known.body, isReplay: true };
    this.#underWay.add(keyed);
    try {
      const { status, body } = await work();
      const isKept = Buffer.byteLength(JSON.stringify(body ?? null)) <= maxStoredBytes;
      await storeReply(db, keyed, { status, operationId: null, ...(isKept ? { body } : {}) });
      return { status, body, isReplay: false };
    } catch (error) {
      // Why the request failed is the answer, also when its key is free only at the end of the lease.
      await releaseKey(db, keyed, replicaId).catch((failure: unknown) =>
        logger.warn({ err: failure }, 'idempotency key not given back'),
      );
      throw error;
    } finally {
      this.#underWay.delete(keyed);
    }
  }

  /** Renews the claims of requests that are under way here, until `signal` aborts. */
  run(signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#deps;
    const options = {
      name: 'idempotency-keys',
      intervalMs: leaseTtlMs / 3,
      maxBackoffMs: leaseTtlMs / 3,
      clock,
      logger,
    };
    return runLoop(options, () => this.renewOnce(), signal);
  }

  async renewOnce(): Promise<void> {
    await renewKeys(this.#deps.database.db, this.#lease, [...this.#underWay]);
  }

  get #lease(): KeyLease {
    return { owner: this.#deps.replicaId, ttlMs: leaseTtlMs };
  }
}
