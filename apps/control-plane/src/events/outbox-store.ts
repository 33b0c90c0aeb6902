import { newId, type SandboxId, type TeamId } from '@aviary/core';
import type { Db } from '../context.ts';

/** Records an event in the caller's transaction, so that it is told exactly when the change is kept. */
export async function recordEvent(
  db: Db,
  event: { teamId: TeamId; sandboxId: SandboxId | null; type: string; payload?: object },
): Promise<void> {
  await db
    .insertInto('outbox_events')
    .values({
      event_id: newId('event'),
      team_id: event.teamId,
      sandbox_id: event.sandboxId,
      type: event.type,
      payload: JSON.stringify(event.payload ?? {}),
    })
    .execute();
}
