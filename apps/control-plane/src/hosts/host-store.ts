import { AppError, type HostId, type Id, newId, type TeamId } from '@aviary/core';
import type { HostTable } from '@aviary/database';
import { type Selectable, sql } from 'kysely';
import type { Db } from '../context.ts';

export type HostRow = Selectable<HostTable>;

export const hostColumns = [
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
export function listHostsForTeam(db: Db, teamId: TeamId): Promise<HostRow[]> {
  return db
    .selectFrom('hosts')
    .select(hostColumns)
    .where((where) => where.or([where('team_id', 'is', null), where('team_id', '=', teamId)]))
    .orderBy('id')
    .limit(1_000)
    .execute();
}

export function listHosts(db: Db, statuses: HostRow['status'][]): Promise<HostRow[]> {
  return db.selectFrom('hosts').select(hostColumns).where('status', 'in', statuses).orderBy('id').execute();
}

export async function insertHost(db: Db, teamId: TeamId | null): Promise<HostId> {
  const id = newId('host');
  await db.insertInto('hosts').values({ id, team_id: teamId }).execute();
  return id;
}

export async function insertHostToken(
  db: Db,
  token: { hostId: HostId; tokenHash: string; expiresAt: Date },
): Promise<void> {
  await db
    .insertInto('host_tokens')
    .values({ id: newId('hostToken'), host_id: token.hostId, token_hash: token.tokenHash, expires_at: token.expiresAt })
    .execute();
}

/** Uses up a one-time token: of many that try, one gets the host. */
export async function consumeHostToken(db: Db, tokenHash: string, now: Date): Promise<HostId | undefined> {
  const row = await db
    .updateTable('host_tokens')
    .set({ used_at: now })
    .where('token_hash', '=', tokenHash)
    .where('used_at', 'is', null)
    .where('expires_at', '>', now)
    .returning('host_id')
    .executeTakeFirst();
  return row?.host_id;
}

export async function insertRefreshToken(
  db: Db,
  token: { hostId: HostId; tokenHash: string; expiresAt: Date },
): Promise<void> {
  await db
    .insertInto('host_refresh_tokens')
    .values({
      id: newId('refreshToken'),
      host_id: token.hostId,
      token_hash: token.tokenHash,
      expires_at: token.expiresAt,
    })
    .execute();
}

export function findRefreshToken(
  db: Db,
  tokenHash: string,
  now: Date,
): Promise<{ id: Id<'refreshToken'>; host_id: HostId } | undefined> {
  return db
    .selectFrom('host_refresh_tokens')
    .select(['id', 'host_id'])
    .where('token_hash', '=', tokenHash)
    .where('revoked_at', 'is', null)
    .where('expires_at', '>', now)
    .executeTakeFirst();
}

export async function revokeRefreshToken(db: Db, id: Id<'refreshToken'>, now: Date): Promise<void> {
  await db.updateTable('host_refresh_tokens').set({ revoked_at: now }).where('id', '=', id).execute();
}

export async function revokeRefreshTokensOf(db: Db, hostId: HostId, now: Date): Promise<void> {
  await db
    .updateTable('host_refresh_tokens')
    .set({ revoked_at: now })
    .where('host_id', '=', hostId)
    .where('revoked_at', 'is', null)
    .execute();
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
): Promise<{ wasUnreachable: boolean } | undefined> {
  const before = await db.selectFrom('hosts').select('status').where('id', '=', id).forUpdate().executeTakeFirst();
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
  return { wasUnreachable: before.status === 'unreachable' };
}
