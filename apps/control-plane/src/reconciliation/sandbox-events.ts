import type { SandboxEventName, SandboxEvents } from '@aviary/api-contract';
import {
  AppError,
  asId,
  type HostId,
  nextSandboxStatus,
  parseId,
  type SandboxId,
  type SandboxTransition,
} from '@aviary/core';
import type { Db, ServiceContext } from '../context.ts';
import { applyTransition, findSandboxById, type SandboxChanges } from '../sandboxes/sandbox-store.ts';

type SandboxEvent = SandboxEvents['events'][number];

const transitions: Record<SandboxEventName, SandboxTransition> = {
  'sandbox.started': 'start_succeeded',
  'sandbox.resumed': 'resume_succeeded',
  'sandbox.paused': 'pause_succeeded',
  'sandbox.auto_paused': 'auto_paused',
  'sandbox.stopped': 'stop_succeeded',
  'sandbox.failed': 'start_failed',
  'sandbox.error': 'vm_lost',
  'sandbox.pause_failed': 'pause_failed',
  'sandbox.resume_failed': 'resume_failed',
  'sandbox.reason_changed': 'reason_changed',
};

/**
 * Applies what a host reports, in order. Each event is applied once however often it comes; one that is older than the
 * sandbox's last change, not legal in its state, of an unknown kind, or about another host's sandbox changes nothing.
 */
export async function ingestSandboxEvents(
  { database, logger }: Pick<ServiceContext, 'database' | 'logger'>,
  hostId: HostId,
  { events }: SandboxEvents,
): Promise<void> {
  const parsed = events.map(parseEvent);
  for (const event of parsed) {
    const isApplied = await database.db.transaction().execute((transaction) => applyEvent(transaction, hostId, event));
    logger.debug(
      { hostId, sandboxId: event.sandboxId, eventId: event.id, event: event.event, isApplied },
      'sandbox event',
    );
  }
}

type ParsedEvent = SandboxEvent & {
  sandboxId: SandboxId;
  occurredAt: Date;
  generationId: ReturnType<typeof asId<'generation'>> | null;
};

function parseEvent(event: SandboxEvent): ParsedEvent {
  const occurredAt = new Date(event.occurred_at);
  if (Number.isNaN(occurredAt.getTime())) {
    throw new AppError('invalid_request', 'occurred_at must be an RFC 3339 time', {
      details: { field: 'occurred_at' },
    });
  }
  const bare = (kind: 'sandbox' | 'generation', text: string) => {
    const prefixed = text.startsWith('sb-') || text.startsWith('gen-');
    return prefixed ? parseId(kind, text) : asId(kind, text);
  };
  return {
    ...event,
    sandboxId: bare('sandbox', event.sandbox_id) as SandboxId,
    occurredAt,
    generationId: event.generation_id ? (bare('generation', event.generation_id) as ParsedEvent['generationId']) : null,
  };
}

async function applyEvent(db: Db, hostId: HostId, event: ParsedEvent): Promise<boolean> {
  const isNew = await db
    .insertInto('host_events')
    .values({ host_id: hostId, event_id: event.id })
    .onConflict((conflict) => conflict.doNothing())
    .returning('event_id')
    .executeTakeFirst();
  const transition = Object.hasOwn(transitions, event.event) ? transitions[event.event as SandboxEventName] : undefined;
  if (!isNew || !transition) return false;
  for (;;) {
    const row = await findSandboxById(db, event.sandboxId);
    if (!row || row.host_id !== hostId || event.occurredAt < row.status_changed_at) return false;
    if (nextSandboxStatus(row.status, transition) === undefined) return false;
    const changes: SandboxChanges = { status_reason: event.reason ?? null };
    if (event.start_path !== undefined) changes.start_path = event.start_path;
    if (event.generationId) changes.generation_id = event.generationId;
    if (transition === 'start_succeeded' || transition === 'resume_succeeded') {
      changes.started_at = event.occurredAt;
      changes.last_active_at = event.occurredAt;
    }
    if (await applyTransition(db, row, { transition, changes })) return true;
  }
}
