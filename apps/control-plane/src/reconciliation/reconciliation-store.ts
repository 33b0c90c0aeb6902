import type { HostId } from '@aviary/core';
import { sql } from 'kysely';
import type { Db } from '../context.ts';
import { type SandboxRow, sandboxColumns } from '../sandboxes/sandbox-store.ts';

/** A host's sandboxes that are not stopped; bounded by what a host can hold. */
export function listLiveSandboxes(db: Db, hostId: HostId): Promise<SandboxRow[]> {
  return db
    .selectFrom('sandboxes')
    .select(sandboxColumns)
    .where('host_id', '=', hostId)
    .where('status', '<>', 'stopped')
    .execute();
}

/** Marks hosts that have not been heard of since; resolves with those that were online until now. */
export async function markSilentHosts(db: Db, since: Date): Promise<HostId[]> {
  const rows = await db
    .updateTable('hosts')
    .set({ status: 'unreachable' })
    .where('status', '=', 'online')
    .where('last_heartbeat_at', '<', since)
    .returning('id')
    .execute();
  return rows.map((row) => row.id);
}

/** The store's own time, by which it dates changes. */
export async function readTime(db: Db): Promise<Date> {
  const { rows } = await sql<{ now: Date }>`SELECT now() AS now`.execute(db);
  return rows[0]?.now ?? new Date();
}
