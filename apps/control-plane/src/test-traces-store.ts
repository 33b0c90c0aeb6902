import type { SandboxId } from '@aviary/core';
import { sql } from 'kysely';
import type { Db } from './context.ts';

/** How many of each thing that a create leaves there are about one sandbox. */
export interface SandboxTraces {
  id: SandboxId;
  rows: number;
  creates: number;
  audits: number;
  events: number;
  /** Operations that have not come to their end. */
  running: number;
  failed: number;
}

/** For tests: of every sandbox that anything at all is told of, what is told. */
export async function sumSandboxTraces(db: Db): Promise<SandboxTraces[]> {
  const { rows } = await sql<SandboxTraces>`
    SELECT id, sum(r)::int AS rows, sum(c)::int AS creates, sum(a)::int AS audits, sum(e)::int AS events, sum(u)::int AS running,
      sum(f)::int AS failed
    FROM (
      SELECT id, 1 AS r, 0 AS c, 0 AS a, 0 AS e, 0 AS u, 0 AS f FROM sandboxes
      UNION ALL SELECT sandbox_id, 0, (kind = 'create')::int, 0, 0, (state = 'running')::int, (state = 'failed')::int FROM operations
      UNION ALL SELECT resource_id::uuid, 0, 0, 1, 0, 0, 0 FROM audit_logs WHERE action = 'sandbox.create'
      UNION ALL SELECT sandbox_id, 0, 0, 0, 1, 0, 0 FROM outbox_events WHERE type = 'sandbox.created'
    ) AS traces GROUP BY id`.execute(db);
  return rows;
}
