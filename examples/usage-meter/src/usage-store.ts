import type { Db } from '@aviary/control-plane';
import type { SandboxId, TeamId } from '@aviary/core';
import { sql } from 'kysely';

/** Notes that a sandbox runs since `at`, unless that is known. */
export async function startRun(db: Db, id: SandboxId, at: Date): Promise<void> {
  await sql`
    INSERT INTO usage_runs (sandbox_id, started_at, team_id, vcpus)
    SELECT id, ${at}::timestamptz, team_id, vcpus FROM sandboxes
    WHERE id = ${id} AND NOT EXISTS (SELECT FROM usage_runs WHERE sandbox_id = ${id} AND ended_at IS NULL)
    ON CONFLICT DO NOTHING`.execute(db);
}

/** Notes that a sandbox ran until `at`. */
export async function endRun(db: Db, id: SandboxId, at: Date): Promise<void> {
  await sql`
    UPDATE usage_runs SET ended_at = ${at}
    WHERE sandbox_id = ${id} AND ended_at IS NULL AND started_at <= ${at}`.execute(db);
}

/** How long a team's sandboxes ran between two moments; those that run still, until `now`. */
export async function sumRuns(
  db: Db,
  { teamId, from, to, now }: { teamId: TeamId; from: Date; to: Date; now: Date },
): Promise<{ sandboxSeconds: number; vcpuSeconds: number }> {
  const { rows } = await sql<{ sandboxSeconds: number; vcpuSeconds: number }>`
    SELECT coalesce(sum(seconds), 0)::float8 AS "sandboxSeconds", coalesce(sum(seconds * vcpus), 0)::float8 AS "vcpuSeconds"
    FROM (
      SELECT vcpus, extract(epoch FROM
        least(coalesce(ended_at, ${now}::timestamptz), ${to}::timestamptz) - greatest(started_at, ${from}::timestamptz)) AS seconds
      FROM usage_runs WHERE team_id = ${teamId} AND started_at < ${to}
    ) AS runs WHERE seconds > 0`.execute(db);
  return rows[0] ?? { sandboxSeconds: 0, vcpuSeconds: 0 };
}

/** Forgets runs that ended before a moment. */
export async function deleteOldRuns(db: Db, before: Date): Promise<void> {
  await sql`DELETE FROM usage_runs WHERE ended_at < ${before}`.execute(db);
}

export async function deleteRunsOf(db: Db, teamId: TeamId): Promise<void> {
  await sql`DELETE FROM usage_runs WHERE team_id = ${teamId}`.execute(db);
}
