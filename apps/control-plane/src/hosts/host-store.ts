import { AppError, type HostId, newId, type TeamId } from '@aviary/core';
import type { HostTable } from '@aviary/database';
import { type Selectable, sql } from 'kysely';
import type { Db } from '../context.ts';

export type HostRow = Selectable<HostTable>;

const hostColumns = [
  'id',
  'team_id',
  'status',
  'address',
  'arch',
  'cpu_cores',
  'memory_mib',
  'disk_gib',
  'agent_version',
  'epoch',
  'last_heartbeat_at',
  'created_at',
  'updated_at',
] as const satisfies (keyof HostTable)[];

export async function getHost(db: Db, id: HostId): Promise<HostRow> {
  const row = await db.selectFrom('hosts').select(hostColumns).where('id', '=', id).executeTakeFirst();
  if (!row) throw new AppError('not_found', 'there is no such host');
  return row;
}

/** Hosts that a team may use: the platform's and its own. */
function usableHosts(db: Db, teamId: TeamId) {
  return db
    .selectFrom('hosts')
    .select(hostColumns)
    .where((where) => where.or([where('team_id', 'is', null), where('team_id', '=', teamId)]));
}

/** The first thousand hosts that a team may use. */
export function listHostsForTeam(db: Db, teamId: TeamId): Promise<HostRow[]> {
  return usableHosts(db, teamId).orderBy('id').limit(1_000).execute();
}

/** Every host that could be given a team's sandbox, or the one that must be: of these the online ones, or all. */
export function listPlacementHosts(
  db: Db,
  { teamId, onlyHost, onlineOnly }: { teamId: TeamId; onlyHost: HostId | null; onlineOnly: boolean },
): Promise<HostRow[]> {
  let query = usableHosts(db, teamId);
  if (onlyHost !== null) query = query.where('id', '=', onlyHost);
  if (onlineOnly) query = query.where('status', '=', 'online');
  return query.execute();
}

/** Keeps an online host to the caller's transaction. Undefined when it is online no longer. */
export function lockOnlineHost(db: Db, id: HostId): Promise<HostRow | undefined> {
  return db
    .selectFrom('hosts')
    .select(hostColumns)
    .where('id', '=', id)
    .where('status', '=', 'online')
    .forUpdate()
    .executeTakeFirst();
}

/** Keeps the first online host of `ids` that no other transaction has. Undefined when all are held, or online no longer. */
export function lockFirstFreeHost(db: Db, ids: readonly HostId[]): Promise<HostRow | undefined> {
  const wanted = sql<HostId[]>`${ids}::uuid[]`;
  return db
    .selectFrom('hosts')
    .select(hostColumns)
    .where('id', '=', sql<HostId>`ANY(${wanted})`)
    .where('status', '=', 'online')
    .orderBy(sql`array_position(${wanted}, id)`)
    .limit(1)
    .forUpdate()
    .skipLocked()
    .executeTakeFirst();
}

export function listHosts(db: Db, statuses: HostRow['status'][]): Promise<HostRow[]> {
  return db.selectFrom('hosts').select(hostColumns).where('status', 'in', statuses).orderBy('id').execute();
}

export async function insertHost(db: Db, teamId: TeamId | null): Promise<HostId> {
  const id = newId('host');
  await db.insertInto('hosts').values({ id, team_id: teamId }).execute();
  return id;
}

/** A host of the platform: one that has registered, before one that still waits for its agent. */
export function findPlatformHost(db: Db): Promise<Pick<HostRow, 'id' | 'status'> | undefined> {
  return db
    .selectFrom('hosts')
    .select(['id', 'status'])
    .where('team_id', 'is', null)
    .orderBy(sql`status = 'pending'`)
    .limit(1)
    .executeTakeFirst();
}

/** What an agent says of its machine when it registers. */
export type HostFacts = Pick<HostRow, 'address' | 'arch' | 'cpu_cores' | 'memory_mib' | 'disk_gib' | 'agent_version'>;

/** Puts a host in service under a new epoch, which its agent is to obey from then on. */
export function registerHostRow(
  db: Db,
  { id, facts, now }: { id: HostId; facts: HostFacts; now: Date },
): Promise<Pick<HostRow, 'epoch' | 'team_id'>> {
  return db
    .updateTable('hosts')
    .set({ ...facts, status: 'online', epoch: sql<number>`epoch + 1`, last_heartbeat_at: now, updated_at: now })
    .where('id', '=', id)
    .returning(['epoch', 'team_id'])
    .executeTakeFirstOrThrow();
}

/** Marks the host alive. Resolves with its status before, or undefined when there is no such host. */
export async function touchHost(
  db: Db,
  {
    id,
    agentVersion,
    address,
    now,
  }: { id: HostId; agentVersion: string | undefined; address: string | undefined; now: Date },
): Promise<{ wasUnreachable: boolean; teamId: TeamId | null; address: string } | undefined> {
  const before = await db
    .selectFrom('hosts')
    .select(['status', 'team_id', 'address'])
    .where('id', '=', id)
    .forUpdate()
    .executeTakeFirst();
  if (!before) return undefined;
  await db
    .updateTable('hosts')
    .set({
      last_heartbeat_at: now,
      status: sql`CASE WHEN status IN ('unreachable', 'pending') THEN 'online' ELSE status END`,
      ...(agentVersion === undefined ? {} : { agent_version: agentVersion }),
      ...(address === undefined ? {} : { address }),
    })
    .where('id', '=', id)
    .execute();
  return {
    wasUnreachable: before.status === 'unreachable',
    teamId: before.team_id,
    address: address ?? before.address,
  };
}

/** Marks hosts that have not been heard of since; resolves with those that were online until now. */
export function markSilentHosts(db: Db, since: Date): Promise<Pick<HostRow, 'id' | 'team_id' | 'address'>[]> {
  return db
    .updateTable('hosts')
    .set({ status: 'unreachable' })
    .where('status', '=', 'online')
    .where('last_heartbeat_at', '<', since)
    .returning(['id', 'team_id', 'address'])
    .execute();
}

/** Gives the hosts that a team brought no more sandboxes. */
export async function drainHostsOf(db: Db, teamId: TeamId): Promise<void> {
  await db.updateTable('hosts').set({ status: 'draining' }).where('team_id', '=', teamId).execute();
}
