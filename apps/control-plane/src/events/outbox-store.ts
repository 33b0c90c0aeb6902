import { newId, type SandboxId, type TeamId } from '@aviary/core';
import type { OutboxEventTable } from '@aviary/database';
import type { Insertable } from 'kysely';
import type { Db } from '../context.ts';

export interface NewEvent {
  teamId: TeamId;
  sandboxId: SandboxId | null;
  type: string;
  payload?: object;
}

/** Records an event in the caller's transaction, so that it is told exactly when the change is kept. */
export async function recordEvent(db: Db, event: NewEvent): Promise<void> {
  await db.insertInto('outbox_events').values(eventRow(event)).execute();
}

/** An event as it is recorded: for statements that record it together with its change. */
export function eventRow(event: NewEvent): Insertable<OutboxEventTable> {
  return {
    event_id: newId('event'),
    team_id: event.teamId,
    sandbox_id: event.sandboxId,
    type: event.type,
    payload: JSON.stringify(event.payload ?? {}),
  };
}
