import type { HostId, SandboxStatus } from '@aviary/core';
import { sql } from 'kysely';
import type { Db } from '../context.ts';
import type { Size } from './placement-refusal.ts';

/** What all sandboxes of one status on one host are promised. */
export interface SandboxSum extends Size {
  hostId: HostId;
  status: SandboxStatus;
}

/** Sums what the sandboxes of each host were given, by status; stopped ones, and those whose first start failed, hold nothing. */
export async function sumSandboxes(db: Db, hosts: readonly HostId[]): Promise<SandboxSum[]> {
  if (hosts.length === 0) return [];
  const rows = await db
    .selectFrom('sandboxes')
    .select(({ fn }) => [
      'host_id',
      'status',
      fn.sum<number>('vcpus').as('vcpus'),
      fn.sum<number>('memory_mib').as('memory_mib'),
      fn.sum<number>('disk_mib').as('disk_mib'),
    ])
    .where('host_id', 'in', hosts)
    // Written out: so the index of those that live serves a plan that was made for all values.
    .where('status', '<>', sql.lit('stopped'))
    .where(({ eb, or }) =>
      or([eb('status', '<>', 'error'), eb('started_at', 'is not', null), eb('generation_id', 'is not', null)]),
    )
    .groupBy(['host_id', 'status'])
    .execute();
  return rows.map((row) => ({
    hostId: row.host_id,
    status: row.status,
    // Sums of integers come as text where they could be too large for a number.
    vcpus: Number(row.vcpus),
    memoryMib: Number(row.memory_mib),
    diskMib: Number(row.disk_mib),
  }));
}
