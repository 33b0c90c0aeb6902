import { type SandboxStatus, sandboxStatuses, sandboxStatusTraits, type TeamId } from '@aviary/core';
import { sql } from 'kysely';
import type { Db } from '../context.ts';

/** An amount of each thing that a team can have. */
export interface Amounts {
  sandboxes: number;
  vcpus: number;
  memory_mib: number;
  disk_mib: number;
  templates: number;
}

/** The most of each; null is as much as there is. */
export type QuotaLimits = { [N in keyof Amounts]: number | null };

const columns = ['sandboxes', 'vcpus', 'memory_mib', 'disk_mib', 'templates'] as const;
const computing: SandboxStatus[] = sandboxStatuses.filter((status) => sandboxStatusTraits[status].reservesCompute);

/** A team's limits; undefined when nobody set any. */
export function findQuota(db: Db, teamId: TeamId): Promise<QuotaLimits | undefined> {
  return db.selectFrom('team_quotas').select(columns).where('team_id', '=', teamId).executeTakeFirst();
}

/** Like {@link findQuota}, and until the end of the transaction whoever else asks for this team's waits. */
export function lockQuota(db: Db, teamId: TeamId): Promise<QuotaLimits | undefined> {
  return db.selectFrom('team_quotas').select(columns).where('team_id', '=', teamId).forUpdate().executeTakeFirst();
}

/** Sets a team's limits; false when there is no such team. */
export async function saveQuota(db: Db, teamId: TeamId, limits: QuotaLimits, now: Date): Promise<boolean> {
  const rows = await db
    .insertInto('team_quotas')
    .columns(['team_id', ...columns, 'updated_at'])
    .expression(
      db
        .selectFrom('teams')
        .select([
          'id',
          ...columns.map((name) => sql<number | null>`${limits[name]}::integer`.as(name)),
          sql<Date>`${now}::timestamptz`.as('updated_at'),
        ])
        .where('id', '=', teamId)
        .where('deleted_at', 'is', null),
    )
    .onConflict((conflict) => conflict.column('team_id').doUpdateSet({ ...limits, updated_at: now }))
    .returning('team_id')
    .execute();
  return rows.length > 0;
}

/** What a team has: of sandboxes, what they were given, but cores and memory only while they hold any. */
export async function sumTeam(db: Db, teamId: TeamId): Promise<Amounts> {
  const row = await db
    .selectFrom('sandboxes')
    .select(({ fn, eb, selectFrom }) => [
      fn.countAll<number>().as('sandboxes'),
      fn.sum<number>('vcpus').filterWhere('status', 'in', computing).as('vcpus'),
      fn.sum<number>('memory_mib').filterWhere('status', 'in', computing).as('memory_mib'),
      fn.sum<number>('disk_mib').as('disk_mib'),
      selectFrom('templates')
        .select(eb.fn.countAll<number>().as('count'))
        .where('templates.team_id', '=', teamId)
        .where('templates.status', '<>', 'deleting')
        .as('templates'),
    ])
    .where('team_id', '=', teamId)
    .where('status', '<>', 'stopped')
    .executeTakeFirstOrThrow();
  // Sums of integers come as text where they could be too large for a number, and are null of nothing.
  return {
    sandboxes: Number(row.sandboxes),
    vcpus: Number(row.vcpus),
    memory_mib: Number(row.memory_mib),
    disk_mib: Number(row.disk_mib),
    templates: Number(row.templates),
  };
}
