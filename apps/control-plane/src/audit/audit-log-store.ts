import type { AuditEntryId, AuditScope, TeamId } from '@aviary/core';
import type { AuditLogTable } from '@aviary/database';
import { type Selectable, sql } from 'kysely';
import type { Db } from '../context.ts';

export type AuditRow = Selectable<AuditLogTable>;

/** Which entries are wanted. */
export interface AuditSelection {
  teamId: TeamId;
  /** Null for all. */
  scope: AuditScope | null;
  resourceTypes?: readonly string[];
  actions?: readonly string[];
  /** A bare id, or null for the system. */
  actorId?: string | null;
  from?: Date;
  to?: Date;
}

/** Where a page ends: entries are ordered by both. */
export interface AuditPosition {
  position: number;
  id: AuditEntryId;
}

const columns = [
  'id',
  'team_id',
  'actor_type',
  'actor_id',
  'actor_name',
  'resource_type',
  'resource_id',
  'action',
  'scope',
  'status',
  'metadata',
  'created_at',
  'position',
] as const satisfies (keyof AuditLogTable)[];

/**
 * Entries from the newest on, or from `after` on. An id is made before its transaction ends, so by ids alone an entry could turn up
 * behind a page that was read. Entries are ordered by their transactions instead, and one is shown when no transaction that could
 * still write before it is under way: what comes later comes before the first page. (A number above all of this server's transactions
 * is of a log that was restored from another one's.)
 */
export function listAuditLog(
  db: Db,
  selection: AuditSelection,
  { limit, after }: { limit: number; after?: AuditPosition },
): Promise<AuditRow[]> {
  const { teamId, scope, resourceTypes, actions, actorId, from, to } = selection;
  let query = db
    .selectFrom('audit_logs')
    .select(columns)
    .where('team_id', '=', teamId)
    .where(
      sql<boolean>`(position < pg_snapshot_xmin(pg_current_snapshot())::text::bigint OR position >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint)`,
    );
  if (scope !== null) query = query.where('scope', '=', scope);
  if (resourceTypes) query = query.where('resource_type', 'in', resourceTypes);
  if (actions) query = query.where('action', 'in', actions);
  if (actorId === null) query = query.where('actor_type', '=', 'system');
  else if (actorId !== undefined) query = query.where('actor_id', '=', actorId);
  if (from) query = query.where('created_at', '>=', from);
  if (to) query = query.where('created_at', '<', to);
  if (after)
    query = query.where(({ eb, refTuple, tuple }) =>
      eb(refTuple('position', 'id'), '<', tuple(after.position, after.id)),
    );
  return query.orderBy('position', 'desc').orderBy('id', 'desc').limit(limit).execute();
}
