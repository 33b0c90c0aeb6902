import { AppError, type TeamId } from '@aviary/core';
import type { UnitOfWork } from '@aviary/database';
import { runLoop } from '@aviary/service-kit';
import { recordAudit } from '../audit/audit-store.ts';
import type { Actor, ServiceContext } from '../context.ts';
import { tellAccessChanged } from '../http/access-change-store.ts';
import { listUnclearedTeams, markTeamCleared, markTeamDeleted } from './team-store.ts';

/** A team that is being deleted, and by whom. */
export interface DeletedTeam {
  teamId: TeamId;
  actor: Actor;
  now: Date;
}

/** What teams own in the tables of one domain, and what becomes of it when a team is deleted. */
export interface TeamResource {
  /** Tables that have the team in a column `team_id`. */
  tables: readonly string[];
  /** In the transaction that deletes the team: nobody can use it from then on. */
  deactivate?(unit: UnitOfWork, team: DeletedTeam): Promise<void>;
  /** Afterwards, again and again while a host is away: begins or goes on with what is left. True when nothing is. */
  clear?(teamId: TeamId): Promise<boolean>;
}

export interface TeamDeletionOptions {
  intervalMs: number;
  /** For so long a request that was let in before the team was deleted may still add to it. */
  lateMs: number;
}

export const defaultTeamDeletionOptions: TeamDeletionOptions = { intervalMs: 15_000, lateMs: 120_000 };

const lockName = 'aviary:team-deletion';
/** Teams that are cleared in one round. */
const batch = 100;

type Deps = Pick<ServiceContext, 'database' | 'clock' | 'logger'>;

/** Deletes teams: at once for people and keys, and then what they have on hosts, until nothing is left. */
export class TeamDeletion {
  readonly #deps: Deps;
  readonly #options: TeamDeletionOptions;
  #resources: readonly TeamResource[] = [];

  constructor(deps: Deps, options: TeamDeletionOptions = defaultTeamDeletionOptions) {
    this.#deps = deps;
    this.#options = options;
  }

  /** What there is to know of, from all modules; given once they are made. */
  use(resources: readonly TeamResource[]): void {
    this.#resources = resources;
  }

  /** The tables that are answered for. */
  get tables(): string[] {
    return this.#resources.flatMap(({ tables }) => tables);
  }

  /**
   * Deletes a team in the caller's transaction. Its members see it no more, its keys and invitations are dead, and once the transaction is
   * kept, any replica clears away the rest. Throws `not_found`.
   */
  async deleteTeam({ db, ...unit }: UnitOfWork, { teamId, actor }: { teamId: TeamId; actor: Actor }): Promise<void> {
    const now = new Date(this.#deps.clock.now());
    const deleted = await markTeamDeleted(db, teamId, now);
    if (!deleted) throw new AppError('not_found', 'there is no such team');
    await recordAudit(db, {
      teamId,
      actor,
      action: 'team.delete',
      resourceId: teamId,
      metadata: { team: deleted.name },
    });
    for (const { deactivate } of this.#resources) await deactivate?.({ db, ...unit }, { teamId, actor, now });
    await tellAccessChanged(db, { type: 'team', id: teamId });
  }

  run(signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#deps;
    const { intervalMs } = this.#options;
    return runLoop({ name: 'team-deletion', intervalMs, clock, logger }, () => this.runOnce(), signal);
  }

  /** One round over the deleted teams of which something is left, unless another replica is at it. */
  async runOnce(): Promise<void> {
    const { database, logger } = this.#deps;
    await database.tryWithLock(lockName, async () => {
      for (const team of await listUnclearedTeams(database.db, batch)) {
        await this.#clear(team).catch((error: unknown) =>
          logger.warn({ teamId: team.id, err: error }, 'a deleted team is not cleared away yet'),
        );
      }
    });
  }

  async #clear({ id, deleted_at }: { id: TeamId; deleted_at: Date }): Promise<void> {
    const { database, clock, logger } = this.#deps;
    const now = clock.now();
    let isCleared = now - deleted_at.getTime() >= this.#options.lateMs;
    for (const { clear } of this.#resources) if (clear && !(await clear(id))) isCleared = false;
    if (!isCleared) return;
    await markTeamCleared(database.db, id, new Date(now));
    logger.info({ teamId: id }, 'nothing is left of a deleted team');
  }
}
