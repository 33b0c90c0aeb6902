import { AppError, type TeamId } from '@aviary/core';
import type { Db } from '../context.ts';
import { type Amounts, lockQuota, sumTeam } from './quota-store.ts';

/** Names of the limits in the API, and in sentences. */
const words = {
  sandboxes: { field: 'sandboxes', unit: 'sandboxes' },
  vcpus: { field: 'vcpus', unit: 'vCPUs' },
  memory_mib: { field: 'memory_mb', unit: 'MiB of memory' },
  disk_mib: { field: 'disk_size_mb', unit: 'MiB of disk' },
  templates: { field: 'templates', unit: 'snapshots' },
} as const satisfies Record<keyof Amounts, { field: string; unit: string }>;

/**
 * Sees to it that the team may have `asked` more, which the caller's transaction inserts: of two that compete for the last of it, one sees
 * what the other took. Before a place on a host is reserved, so that locks are taken in one order. Throws `quota_exceeded`.
 */
export async function reserveQuota(db: Db, teamId: TeamId, asked: Partial<Amounts>): Promise<void> {
  const limits = await lockQuota(db, teamId);
  if (!limits) return;
  const used = await sumTeam(db, teamId);
  for (const name of Object.keys(words) as (keyof Amounts)[]) {
    const limit = limits[name];
    const more = asked[name] ?? 0;
    if (limit === null || more === 0 || used[name] + more <= limit) continue;
    const { field, unit } = words[name];
    throw new AppError(
      'quota_exceeded',
      `the team may have ${limit} ${unit}, has ${used[name]} and this needs ${more} more; free some, or ask for a higher limit`,
      { details: { limit: field, allowed: limit, used: used[name], asked: more } },
    );
  }
}
