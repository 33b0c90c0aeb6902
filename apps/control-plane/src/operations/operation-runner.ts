import { AppError, type ErrorCode, formatId, newId, type OperationId, toAppError } from '@aviary/core';
import type { UnitOfWork } from '@aviary/database';
import { backoffMs, currentTrace, runLoop, runWithTrace } from '@aviary/service-kit';
import type { ServiceContext } from '../context.ts';
import type { NewOperation, OperationDefinitions, Settle, Settlement, StoredOperation } from './operation.ts';
import type { OpenedOperation, RegisteredOperation } from './operation-registry.ts';
import {
  claimExpired,
  finishOperation,
  holdOperation,
  insertOperation,
  type Lease,
  releaseLeases,
  renewLeases,
} from './operation-store.ts';
import { type Phase, PhaseLog } from './phase-log.ts';

export interface RunnerOptions {
  /** A replica that is silent for this long has lost its operations. */
  leaseTtlMs: number;
  pollMs: number;
  /** Operations that one replica takes over in one look. */
  claimBatch: number;
  /** How long a stop waits for what is under way before it hands it over. */
  drainMs: number;
  /** An operation that was begun this often without coming to an end fails for good. */
  maxAttempts: number;
}

export const defaultRunnerOptions: RunnerOptions = {
  leaseTtlMs: 30_000,
  pollMs: 5_000,
  claimBatch: 20,
  drainMs: 10_000,
  maxAttempts: 8,
};

/** Failures of the way to a host or to the database, after which the same may be asked again. */
const retryable: readonly ErrorCode[] = ['host_unavailable', 'unavailable'];

const stopped = new AppError('cancelled', 'this replica stops; another one goes on');
const lostLease = new AppError('cancelled', 'another replica has taken the operation over');

/** An operation that this replica has ended. */
export interface SettledOperation {
  kind: string;
  outcome: Settlement['state'];
  /** Since it was accepted, by whichever replica. */
  ms: number;
  phases: readonly Phase[];
}

type RunnerDeps = Pick<ServiceContext, 'database' | 'clock' | 'logger' | 'faults' | 'replicaId'> & {
  operations: readonly RegisteredOperation[];
  /** Told of each operation once its outcome is kept. */
  noteSettled?: ((operation: SettledOperation) => void) | undefined;
};

/** Carries out accepted operations: those of this replica at once, those of a dead one when their leases end. */
export class OperationRunner {
  readonly #deps: RunnerDeps;
  readonly #options: RunnerOptions;
  readonly #registry: ReadonlyMap<string, RegisteredOperation>;
  readonly #running = new Map<OperationId, { controller: AbortController; done: Promise<void> }>();
  #isStopping = false;

  constructor(deps: RunnerDeps, options: RunnerOptions = defaultRunnerOptions) {
    this.#deps = deps;
    this.#options = options;
    this.#registry = new Map(deps.operations.map((operation) => [operation.kind, operation]));
    if (this.#registry.size !== deps.operations.length)
      throw new AppError('internal', 'two domains have operations of the same kind; rename one');
  }

  /**
   * Writes an operation of one of `definitions` in the caller's transaction; it starts once that is kept. `phases` are the
   * steps that accepting it has taken.
   */
  async accept<D extends OperationDefinitions>(
    unit: UnitOfWork,
    definitions: D,
    { operation, phases = [] }: { operation: NewOperation<D>; phases?: readonly Phase[] },
  ): Promise<OperationId> {
    if (definitions[operation.kind] === undefined || !this.#registry.has(operation.kind))
      throw new AppError('internal', `nobody carries out operations of the kind ${operation.kind}`);
    const { kind, teamId, sandboxId, subject, payload } = operation;
    const acceptedAtMs = this.#deps.clock.now();
    const id = newId('operation');
    const requestId = currentTrace().requestId ?? null;
    const stored = await insertOperation(
      unit.db,
      { id, kind, teamId, sandboxId, subject, payload, requestId, phases },
      this.#lease,
    );
    unit.afterCommit(() => {
      const queued = { name: 'queued', ms: this.#deps.clock.now() - acceptedAtMs };
      this.#start(stored, [...phases, queued]);
    });
    return id;
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
    const { database, logger } = this.#deps;
    const wanted = { kinds: [...this.#registry.keys()], limit: this.#options.claimBatch };
    for (const operation of await claimExpired(database.db, this.#lease, wanted)) {
      const { id: operationId, kind, attempt } = operation;
      logger.info({ operationId, kind, attempt }, 'operation taken over');
      this.#start(operation, []);
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

  get #lease(): Lease {
    return { owner: this.#deps.replicaId, ttlMs: this.#options.leaseTtlMs };
  }

  /** Starts an operation whose lease this replica holds; returns at once. */
  #start(operation: StoredOperation, phases: readonly Phase[]): void {
    if (this.#isStopping || this.#running.has(operation.id)) return;
    const { id: operationId, requestId, kind } = operation;
    const controller = new AbortController();
    const trace = { operationId, ...(requestId === null ? {} : { requestId }) };
    const done = runWithTrace(trace, () =>
      this.#carryOut(operation, { signal: controller.signal, phases: new PhaseLog(this.#deps.clock, phases) })
        .catch((error: unknown) => {
          const isHandedOver = error === stopped || error === lostLease;
          // Not finished and not ours to judge: its lease runs out and it is taken up again.
          this.#deps.logger[isHandedOver ? 'info' : 'error']({ operationId, kind, err: error }, 'operation left');
        })
        .finally(() => this.#running.delete(operationId)),
    );
    this.#running.set(operationId, { controller, done });
  }

  async #carryOut(operation: StoredOperation, context: { signal: AbortSignal; phases: PhaseLog }): Promise<void> {
    const { signal, phases } = context;
    const { faults } = this.#deps;
    const opened = this.#open(operation);
    let settle: Settle;
    try {
      if (opened instanceof AppError) throw opened;
      this.#checkAttempts(operation);
      await faults.hit(`operation.before-${operation.kind}`);
      settle = await this.#runWithRetries(opened, context);
      await faults.hit(`operation.after-${operation.kind}`);
    } catch (error) {
      signal.throwIfAborted();
      // Of the database, not of the work: it is taken up again when its lease has run out.
      if (error instanceof AppError && error.code === 'unavailable') throw error;
      settle = await this.#judgeFailure(operation, opened, error);
    }
    signal.throwIfAborted();
    await this.#settle(operation, settle, phases);
  }

  #open(operation: StoredOperation): OpenedOperation | AppError {
    const registered = this.#registry.get(operation.kind);
    try {
      if (!registered) throw new AppError('internal', `nobody carries out operations of the kind ${operation.kind}`);
      return registered.open(operation);
    } catch (error) {
      return toAppError(error);
    }
  }

  #checkAttempts({ attempt }: StoredOperation): void {
    const { maxAttempts } = this.#options;
    if (attempt > maxAttempts)
      throw new AppError('internal', `given up after ${maxAttempts} replicas began it and did not come to its end`);
  }

  /** What a failure leaves: as the handler says, or just the error when there is none that could say. */
  async #judgeFailure(operation: StoredOperation, opened: OpenedOperation | AppError, error: unknown): Promise<Settle> {
    const failure = describeFailure(operation.id, error);
    const facts = { operationId: operation.id, kind: operation.kind, sandboxId: operation.sandboxId };
    const level = failure.code === 'internal' ? 'error' : 'warn';
    this.#deps.logger[level]({ ...facts, code: failure.code, err: error }, 'operation failed');
    // What such an operation was about is settled by the reconciler, when the time of its state is over.
    const justTheError: Settle = async () => ({ state: 'failed', error: failure });
    if (opened instanceof AppError) return justTheError;
    try {
      return await opened.fail(failure);
    } catch (judging) {
      if (operation.attempt < this.#options.maxAttempts) throw judging;
      this.#deps.logger.error({ ...facts, err: judging }, 'operation failed, and what it left is not known');
      return justTheError;
    }
  }

  /** Writes the outcome, if the operation is still this replica's. */
  async #settle({ id, kind, createdAt }: StoredOperation, settle: Settle, phases: PhaseLog): Promise<void> {
    const { database, clock, replicaId, noteSettled } = this.#deps;
    await database.transaction(async (unit) => {
      if (!(await holdOperation(unit.db, { id, owner: replicaId }))) throw lostLease;
      const steps = new PhaseLog(clock, phases.phases);
      const settlement: Settlement = await steps.time('settled', () => settle(unit));
      await finishOperation(unit.db, id, { settlement, phases: steps.phases });
      unit.afterCommit(() => {
        // The database has a clock of its own, which may be ahead.
        const ms = Math.max(0, clock.now() - createdAt.getTime());
        noteSettled?.({ kind, outcome: settlement.state, ms, phases: steps.phases });
      });
    });
  }

  async #runWithRetries(opened: OpenedOperation, context: { signal: AbortSignal; phases: PhaseLog }): Promise<Settle> {
    const { clock } = this.#deps;
    const startedAt = clock.now();
    for (let attempt = 0; ; attempt++) {
      try {
        return await opened.run(context);
      } catch (error) {
        context.signal.throwIfAborted();
        const isRetryable = error instanceof AppError && retryable.includes(error.code);
        if (!isRetryable || clock.now() - startedAt >= opened.retryBudgetMs) throw error;
        await clock.sleep(backoffMs(attempt, { maxMs: 5_000 }), context.signal);
      }
    }
  }
}

/** A failure in words that stand alone: what nobody foresaw names the operation, by which its lines are found in the logs. */
function describeFailure(id: OperationId, error: unknown): AppError {
  const known = toAppError(error);
  if (known.code !== 'internal') return known;
  const message = `${known.message}; give ${formatId('operation', id)} when you report it`;
  return new AppError('internal', message, { details: known.details, cause: error });
}
