import { type TeamId, uuidv7 } from '@aviary/core';
import type { Actor, Db } from '../context.ts';

export interface AuditEntry {
  teamId: TeamId;
  actor: Actor;
  resourceType: 'sandbox' | 'host' | 'snapshot' | 'generation' | 'api_key';
  resourceId: string | null;
  action: string;
  metadata?: object;
}

/** Appends to the audit log in the transaction of the change it tells of. */
export async function recordAudit(db: Db, entry: AuditEntry): Promise<void> {
  await db
    .insertInto('audit_logs')
    .values({
      id: uuidv7(),
      team_id: entry.teamId,
      actor_type: entry.actor.type,
      actor_id: entry.actor.id,
      resource_type: entry.resourceType,
      resource_id: entry.resourceId,
      action: entry.action,
      metadata: JSON.stringify(entry.metadata ?? {}),
    })
    .execute();
}
