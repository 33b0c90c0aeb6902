import type { ApiKeyId } from '@aviary/core';
import { runLoop } from '@aviary/service-kit';
import { recordAudit } from '../audit/audit-store.ts';
import type { ServiceContext } from '../context.ts';
import { type KnownApiKey, noteKeysUsed } from './api-key-store.ts';

/** What was used in this time is written together. */
const flushMs = 10_000;
/** A key that is refused again and again is told of at first, and then this often with how many times it was. */
const refusalMs = 3600_000;
/** Refused keys that are remembered at once; of more, those that have been told for longest are told anew. */
const maxRefusals = 10_000;

interface Refusal {
  key: KnownApiKey;
  reason: 'revoked' | 'expired';
  count: number;
  /** Null when it was never told of. */
  toldAtMs: number | null;
}

type Deps = Pick<ServiceContext, 'database' | 'clock' | 'logger'>;

/** When keys were used, and how often one that is good no longer was tried: kept in memory and written by and by, not at every call. */
export class KeyUses {
  readonly #deps: Deps;
  #used = new Map<ApiKeyId, Date>();
  readonly #refusals = new Map<ApiKeyId, Refusal>();

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  noteUse(id: ApiKeyId): void {
    this.#used.set(id, new Date(this.#deps.clock.now()));
  }

  noteRefusal(key: KnownApiKey, reason: Refusal['reason']): void {
    const known = this.#refusals.get(key.id);
    if (!known && this.#refusals.size >= maxRefusals) this.#forgetOldest();
    this.#refusals.set(key.id, { key, reason, count: (known?.count ?? 0) + 1, toldAtMs: known?.toldAtMs ?? null });
  }

  /** Writes what was noted until `signal` aborts, and what is left then. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#deps;
    await runLoop({ name: 'key-uses', intervalMs: flushMs, clock, logger }, () => this.flush(), signal);
    await this.flush().catch((error: unknown) => logger.warn({ err: error }, 'the last uses of keys are not written'));
  }

  async flush(): Promise<void> {
    await this.#flushUses();
    await this.#flushRefusals();
  }

  async #flushUses(): Promise<void> {
    if (this.#used.size === 0) return;
    const uses = this.#used;
    this.#used = new Map();
    try {
      await noteKeysUsed(this.#deps.database.db, uses);
    } catch (error) {
      for (const [id, at] of uses) if (!this.#used.has(id)) this.#used.set(id, at);
      throw error;
    }
  }

  async #flushRefusals(): Promise<void> {
    const now = this.#deps.clock.now();
    const isDue = ({ toldAtMs }: Refusal) => toldAtMs === null || now - toldAtMs >= refusalMs;
    for (const refusal of [...this.#refusals.values()].filter(isDue)) {
      const { key, reason, count } = refusal;
      // Quiet for as long as that: when it is tried again, that is told at once.
      if (count === 0) this.#refusals.delete(key.id);
      else {
        await recordAudit(this.#deps.database.db, {
          teamId: key.teamId,
          actor: { type: 'api_key', id: key.id, name: key.name },
          action: 'api_key.refused',
          resourceId: key.id,
          metadata: { reason, count },
        });
        refusal.count -= count;
        refusal.toldAtMs = now;
      }
    }
  }

  #forgetOldest(): void {
    const [oldest] = this.#refusals.keys();
    if (oldest !== undefined) this.#refusals.delete(oldest);
  }
}
