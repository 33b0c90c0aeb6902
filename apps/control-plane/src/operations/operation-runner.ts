import { AppError, errorText, type OperationId, toAppError } from '@aviary/core';
import { backoffMs, runLoop } from '@aviary/service-kit';
import type { Db, ServiceContext } from '../context.ts';
import type { SettledWatch } from '../sandboxes/settled-watch.ts';
import type { Operation, OperationHandler, OperationHandlers, OperationKind, Settle } from './operation.ts';
import { claimExpired, finishOperation, insertOperation, releaseLeases, renewLeases } from './operation-store.ts';

export interface RunnerOptions {
  /** A replica that is silent for this long has lost its operations. */
  leaseTtlMs: number;
  pollMs: number;
  /** Operations that one replica takes over in one look. */
  claimBatch: number;
  /** How long a stop waits for what is under way before it hands it over. */
  drainMs: number;
}

export const defaultRunnerOptions: RunnerOptions = {
  leaseTtlMs: 30_000,
  pollMs: 5_000,
  claimBatch: 20,
  drainMs: 10_000,
};

const stopped = new AppError('cancelled', 'this replica stops; another one goes on');
const lostLease = new AppError('cancelled', 'another replica has taken the operation over');

type RunnerDeps = Pick<ServiceContext, 'database' | 'clock' | 'logger' | 'faults' | 'replicaId'> & {
  handlers: OperationHandlers;
  watch: SettledWatch;
};

/** Carries out accepted operations: those of this replica at once, those of a dead one when their leases end. */
export class OperationRunner {
  readonly #deps: RunnerDeps;
  readonly #options: RunnerOptions;
  readonly #running = new Map<OperationId, { controller: AbortController; done: Promise<void> }>();
  #isStopping = false;

  constructor(deps: RunnerDeps, options: RunnerOptions = defaultRunnerOptions) {
    this.#deps = deps;
    this.#options = options;
  }

  /** Writes the operation in the caller's transaction. Call {@link start} with it after the commit. */
  accept<K extends OperationKind>(db: Db, operation: Omit<Operation<K>, 'createdAt'>): Promise<Operation<K>> {
    return insertOperation(db, operation, this.#lease);
  }

  /** Starts an operation whose lease this replica holds; returns at once. */
  start(operation: Operation): void {
    if (this.#isStopping || this.#running.has(operation.id)) return;
    const controller = new AbortController();
    const done = this.#carryOut(operation, controller.signal)
      .catch((error: unknown) => this.#logEnd(operation, error))
      .finally(() => this.#running.delete(operation.id));
    this.#running.set(operation.id, { controller, done });
  }

  /** Polls for abandoned operations and renews leases until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#deps;
    await Promise.all([
      runLoop({ name: 'operations', intervalMs: this.#options.pollMs, clock, logger }, () => this.runOnce(), signal),
      runLoop(
        {
          name: 'operation-leases',
          intervalMs: this.#options.leaseTtlMs / 3,
          clock,
          logger,
          maxBackoffMs: this.#options.leaseTtlMs / 3,
        },
        () => this.renewOnce(),
        signal,
      ),
    ]);
  }

  /** Takes over what dead replicas left. */
  async runOnce(): Promise<void> {
    if (this.#isStopping) return;
    for (const operation of await claimExpired(this.#deps.database.db, this.#lease, this.#options.claimBatch)) {
      this.#deps.logger.info({ operation: operation.id, kind: operation.kind }, 'operation taken over');
      this.start(operation);
    }
  }

  /** Renews leases; work whose lease is lost is aborted. */
  async renewOnce(): Promise<void> {
    const ids = [...this.#running.keys()];
    if (ids.length === 0) return;
    const kept = new Set(await renewLeases(this.#deps.database.db, this.#lease, ids));
    for (const id of ids) if (!kept.has(id)) this.#running.get(id)?.controller.abort(lostLease);
  }

  /** Waits for what is under way, then aborts the rest and frees its leases for other replicas. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isStopping = true;
    await this.#awaitRunning();
    for (const { controller } of this.#running.values()) controller.abort(stopped);
    await this.#awaitRunning();
    await releaseLeases(this.#deps.database.db, this.#deps.replicaId);
  }

  /** Until nothing runs, at most for the drain time. */
  async #awaitRunning(): Promise<void> {
    const ended = new AbortController();
    const all = Promise.all([...this.#running.values()].map((entry) => entry.done)).finally(() => ended.abort());
    await Promise.race([all, this.#deps.clock.sleep(this.#options.drainMs, ended.signal).catch(() => undefined)]);
  }

  get #lease() {
    return { owner: this.#deps.replicaId, ttlMs: this.#options.leaseTtlMs };
  }

  async #carryOut<K extends OperationKind>(operation: Operation<K>, signal: AbortSignal): Promise<void> {
    const handler = this.#deps.handlers[operation.kind] as unknown as OperationHandler<K>;
    let failure: AppError | undefined;
    let settle: Settle;
    try {
      await this.#deps.faults.hit(`operation.before-${operation.kind}`);
      settle = await this.#runWithRetries(handler, operation, signal);
      await this.#deps.faults.hit(`operation.after-${operation.kind}`);
    } catch (error) {
      signal.throwIfAborted();
      failure = toAppError(error);
      const facts = { operation: operation.id, kind: operation.kind, code: failure.code };
      if (failure.code === 'internal') this.#deps.logger.error({ ...facts, err: error }, 'operation failed');
      else this.#deps.logger.warn({ ...facts, reason: failure.message }, 'operation failed');
      settle = await handler.fail(operation, error);
    }
    signal.throwIfAborted();
    await this.#deps.database.db.transaction().execute(async (transaction) => {
      const error = failure && { code: failure.code, message: failure.message, details: failure.details };
      const isOurs = await finishOperation(transaction, {
        id: operation.id,
        owner: this.#deps.replicaId,
        ...(error ? { error } : {}),
      });
      if (!isOurs) throw lostLease;
      await settle(transaction);
    });
    if (operation.sandboxId) this.#deps.watch.notify(operation.sandboxId);
  }

  async #runWithRetries<K extends OperationKind>(
    handler: OperationHandler<K>,
    operation: Operation<K>,
    signal: AbortSignal,
  ): Promise<Settle> {
    const startedAt = this.#deps.clock.now();
    for (let attempt = 0; ; attempt++) {
      try {
        return await handler.run(operation, signal);
      } catch (error) {
        signal.throwIfAborted();
        const isRetryable = error instanceof AppError && error.code === 'host_unavailable';
        if (!isRetryable || this.#deps.clock.now() - startedAt >= handler.retryBudgetMs) throw error;
        await this.#deps.clock.sleep(backoffMs(attempt, { maxMs: 5_000 }), signal);
      }
    }
  }

  #logEnd(operation: Operation, error: unknown): void {
    const isHandedOver = error === stopped || error === lostLease;
    const level = isHandedOver ? 'info' : 'error';
    // Not finished and not ours to judge: its lease runs out and it is taken up again.
    this.#deps.logger[level](
      { operation: operation.id, kind: operation.kind, err: errorText(error) },
      'operation left',
    );
  }
}
