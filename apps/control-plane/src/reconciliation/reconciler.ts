import { AppError, type HostId, nextSandboxStatus, type OperationId, type SandboxId, uuidv7 } from '@aviary/core';
import type { SandboxInfo } from '@aviary/proto/hostagent';
import { runLoop, withDeadline } from '@aviary/service-kit';
import type { ServiceContext } from '../context.ts';
import type { HostClients } from '../hosts/host-clients.ts';
import { listHosts, markSilentHosts } from '../hosts/host-store.ts';
import { deleteOldKeys } from '../idempotency/key-store.ts';
import { deleteOldOperations } from '../operations/operation-store.ts';
import { heardChanges } from '../sandboxes/outcome.ts';
import { applyTransition, findSandboxById, listLiveSandboxes, type SandboxRow } from '../sandboxes/sandbox-store.ts';
import { agentView, decideReconcile, reconcileReasons } from './reconcile-decision.ts';
import { recordAutoPause, recordHostDown } from './system-audit.ts';

export interface ReconcilerOptions {
  intervalMs: number;
  /** A host that is silent for this long is unreachable: three heartbeats. */
  heartbeatTtlMs: number;
  /** What changed within this time before the host was asked is left alone. */
  graceMs: number;
  listTimeoutMs: number;
}

export const defaultReconcilerOptions: ReconcilerOptions = {
  intervalMs: 60_000,
  heartbeatTtlMs: 90_000,
  graceMs: 60_000,
  listTimeoutMs: 30_000,
};

const lockName = 'aviary:reconciler';
const keptDays = 7;

type Deps = Pick<ServiceContext, 'database' | 'clock' | 'logger'> & { hostClients: HostClients };

/** The safety net: brings what hosts have and what the database says together, in both directions. */
export class Reconciler {
  readonly #deps: Deps;
  readonly #options: ReconcilerOptions;
  /** Before this nobody may have listened to heartbeats. */
  readonly #listeningSinceMs: number;

  constructor(deps: Deps, options: ReconcilerOptions = defaultReconcilerOptions) {
    this.#deps = deps;
    this.#options = options;
    this.#listeningSinceMs = deps.clock.now();
  }

  run(signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#deps;
    return runLoop(
      { name: 'reconciler', intervalMs: this.#options.intervalMs, clock, logger },
      () => this.runOnce(),
      signal,
    );
  }

  /** One round, unless another replica is at it. */
  async runOnce(): Promise<void> {
    const { database, logger } = this.#deps;
    await database.tryWithLock(lockName, async () => {
      await this.#markSilentHosts();
      for (const host of await listHosts(database.db, ['online', 'draining'])) {
        await this.reconcileHost(host.id).catch((error: unknown) =>
          logger.warn({ hostId: host.id, err: error }, 'host not reconciled'),
        );
      }
      await this.#deleteOldRows();
    });
  }

  /** Compares one host's list with its rows. Asks the host first; a row that changed since is left for the next round. */
  async reconcileHost(hostId: HostId): Promise<void> {
    const { database, hostClients } = this.#deps;
    const askedAt = await database.readTime();
    const client = await hostClients.get(hostId);
    const { sandboxes, hostTimeUnixMs } = await withDeadline(
      { what: `listing the sandboxes of host ${hostId}`, timeoutMs: this.#options.listTimeoutMs },
      (signal) => client.listSandboxes({}, { signal }),
    );
    const listed = new Map(sandboxes.map((info) => [info.sandboxId, info]));
    const rows = await listLiveSandboxes(database.db, hostId);
    const known = new Set<string>(rows.map((row) => row.id));
    for (const row of rows)
      await this.#alone({ hostId, sandboxId: row.id }, () => this.#settle(row, listed.get(row.id), askedAt));
    for (const info of sandboxes) {
      const { sandboxId } = info;
      if (known.has(sandboxId)) continue;
      // By the host's own clock on both sides.
      const ageMs = Number(hostTimeUnixMs - info.createdAtUnixMs);
      await this.#alone({ hostId, sandboxId }, () => this.#settleUnknown(hostId, info, { askedAt, ageMs }));
    }
  }

  /** One sandbox that cannot be settled keeps no other from it, unless its host has gone; the next round tries again. */
  async #alone(facts: { hostId: HostId; sandboxId: string }, settle: () => Promise<void>): Promise<void> {
    try {
      await settle();
    } catch (error) {
      if (error instanceof AppError && error.code === 'host_unavailable') throw error;
      this.#deps.logger.warn({ ...facts, err: error }, 'sandbox not reconciled');
    }
  }

  async #settle(row: SandboxRow, info: SandboxInfo | undefined, askedAt: Date): Promise<void> {
    const unchangedMs = askedAt.getTime() - row.status_changed_at.getTime();
    // A host that is back may be believed at once; anything else may be an answer that was under way.
    if (row.status !== 'missing' && unchangedMs < this.#options.graceMs) return;
    const decision = decideReconcile({
      status: row.status,
      agent: agentView(info?.state),
      ageSec: unchangedMs / 1000,
      hasStarted: row.started_at !== null,
    });
    if (decision.do === 'destroy') await this.#destroy(row.host_id, row.id);
    if (decision.do !== 'apply') {
      if (info) await this.#followReason(row, info);
      return;
    }
    await this.#deps.database.transaction(async ({ db, afterCommit }) => {
      let current: SandboxRow | undefined = row;
      for (const transition of decision.transitions) {
        const reason = info?.reason || (reconcileReasons[transition] ?? null);
        const isStart = transition === 'start_succeeded' || transition === 'resume_succeeded';
        const started = isStart ? { started_at: askedAt } : {};
        current =
          current &&
          (await applyTransition(db, current, {
            transition,
            changes: { status_reason: reason, ...started, ...heardChanges(info) },
          }));
      }
      if (!current) return;
      if (decision.transitions.includes('auto_paused')) await recordAutoPause(db, current);
      const facts = { hostId: row.host_id, sandboxId: row.id, from: row.status, to: current.status };
      afterCommit(() => this.#deps.logger.info(facts, 'status settled'));
    });
  }

  /** What keeps a running sandbox from working is told by an event, which a host whose disk is full may not be able to keep. */
  async #followReason(row: SandboxRow, info: SandboxInfo): Promise<void> {
    const isRunning = row.status === 'running' && agentView(info.state) === 'running';
    if (!isRunning || info.reason === '' || info.reason === row.status_reason) return;
    await this.#deps.database.transaction(({ db }) =>
      applyTransition(db, row, { transition: 'reason_changed', changes: { status_reason: info.reason } }),
    );
  }

  /** A microVM without a live row on this host. Reads the row once more: nothing is destroyed on an old look. */
  async #settleUnknown(
    hostId: HostId,
    info: SandboxInfo,
    { askedAt, ageMs }: { askedAt: Date; ageMs: number },
  ): Promise<void> {
    const id = info.sandboxId as SandboxId;
    const row = await findSandboxById(this.#deps.database.db, id);
    if (row && row.host_id === hostId && row.status !== 'stopped') return;
    const quietMs = row ? askedAt.getTime() - row.status_changed_at.getTime() : ageMs;
    if (quietMs < this.#options.graceMs) return;
    await this.#destroy(hostId, id);
  }

  async #destroy(hostId: HostId, sandboxId: SandboxId): Promise<void> {
    this.#deps.logger.warn({ hostId, sandboxId }, 'destroying a microVM that should not be there');
    const client = await this.#deps.hostClients.get(hostId);
    await client.destroySandbox({ operationId: uuidv7() as OperationId, sandboxId });
  }

  async #markSilentHosts(): Promise<void> {
    const { database, clock, logger, hostClients } = this.#deps;
    const silentSinceMs = clock.now() - this.#options.heartbeatTtlMs;
    // A platform that was stopped has heard no host; none is silent before it had the time to be heard.
    const couldBeHeard = silentSinceMs >= this.#listeningSinceMs;
    const silent = !couldBeHeard
      ? []
      : await database.transaction(async ({ db }) => {
          const marked = await markSilentHosts(db, new Date(silentSinceMs));
          for (const host of marked) await recordHostDown(db, host);
          return marked;
        });
    for (const { id: hostId } of silent) {
      logger.warn({ hostId }, 'host is unreachable');
      hostClients.evict(hostId);
    }
    // Looks at all unreachable hosts, not only new ones: a round that was cut short is made good by the next.
    for (const host of await listHosts(database.db, ['unreachable'])) {
      for (const row of await listLiveSandboxes(database.db, host.id)) {
        if (nextSandboxStatus(row.status, 'host_lost') === undefined) continue;
        await database.transaction(({ db }) =>
          applyTransition(db, row, {
            transition: 'host_lost',
            changes: { status_reason: 'its host no longer answers; it comes back with the host' },
          }),
        );
      }
    }
  }

  async #deleteOldRows(): Promise<void> {
    const { db } = this.#deps.database;
    await deleteOldKeys(db);
    await deleteOldOperations(db, keptDays);
  }
}
