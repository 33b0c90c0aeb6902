import type { AuditLogEntry } from '@aviary/api-contract';
import { type AuditResource, formatId, type Id, type IdKind } from '@aviary/core';
import type { AuditRow } from './audit-log-store.ts';

/** The kind of a resource's id; null where there is none. */
const resourceIds: Record<AuditResource, IdKind | null> = {
  sandbox: 'sandbox',
  generation: 'generation',
  snapshot: 'template',
  team: 'team',
  member: 'user',
  invitation: 'invitation',
  api_key: 'apiKey',
  host: 'host',
  user: 'user',
  platform: null,
};

const actorIds = { user: 'user', api_key: 'apiKey', host: 'host', system: null } as const satisfies Record<
  AuditRow['actor_type'],
  IdKind | null
>;

/** An entry as the API shows it. */
export function viewAuditEntry(row: AuditRow): AuditLogEntry {
  const resourceKind = resourceIds[row.resource_type as AuditResource] ?? null;
  return {
    id: formatId('auditEntry', row.id),
    action: row.action,
    actor: { type: row.actor_type, id: showId(actorIds[row.actor_type], row.actor_id), name: row.actor_name },
    resource: { type: row.resource_type, id: showId(resourceKind, row.resource_id) },
    scope: row.scope,
    status: row.status,
    metadata: row.metadata as Record<string, unknown>,
    created_at: row.created_at.toISOString(),
  };
}

function showId(kind: IdKind | null, id: string | null): string | null {
  return id === null || kind === null ? id : formatId(kind, id as Id<IdKind>);
}
