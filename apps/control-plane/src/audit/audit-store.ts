import { type AuditAction, type AuditStatus, auditActions, auditResource, newId, type TeamId } from '@aviary/core';
import type { Actor, Db } from '../context.ts';

export interface AuditEntry {
  /** Whose log it is in; the platform's team for what concerns no other. */
  teamId: TeamId;
  actor: Actor;
  action: AuditAction;
  /** A bare id; null where there is nothing to name. */
  resourceId: string | null;
  /** Default: what {@link auditActions} says. */
  status?: AuditStatus;
  /** What else is worth keeping. Never a secret; of people nothing but `email` and `name`, which go when they do. */
  metadata?: object;
}

/** Appends to the audit log in the transaction of the change it tells of. */
export async function recordAudit(db: Db, entry: AuditEntry): Promise<void> {
  const { actor, action } = entry;
  const kind: { scope: 'team' | 'admin'; status?: AuditStatus } = auditActions[action];
  await db
    .insertInto('audit_logs')
    .values({
      id: newId('auditEntry'),
      team_id: entry.teamId,
      actor_type: actor.type,
      actor_id: actor.id,
      actor_name: actor.name,
      resource_type: auditResource(action),
      resource_id: entry.resourceId,
      action,
      scope: kind.scope,
      status: entry.status ?? kind.status ?? 'success',
      metadata: JSON.stringify(entry.metadata ?? {}),
    })
    .execute();
}
