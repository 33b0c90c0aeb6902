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
import {
  applyTransition,
  findSandboxById,
  noteHeard,
  type SandboxChanges,
  type SandboxRow,
} from '../sandboxes/sandbox-store.ts';
import { recordAutoPause } from './system-audit.ts';

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
 * Applies what a host reports, in order. Each event is applied once however often it comes; one that the host's later answers or events
 * have overtaken, that is not legal in the sandbox's state, of an unknown kind, or about another host's sandbox changes nothing.
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
  generationId: ReturnType<typeof asId<'generation'>> | null;
};

function parseEvent(event: SandboxEvent): ParsedEvent {
  if (Number.isNaN(Date.parse(event.occurred_at))) {
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
    generationId: event.generation_id ? (bare('generation', event.generation_id) as ParsedEvent['generationId']) : null,
  };
}

async function applyEvent(db: Db, hostId: HostId, event: ParsedEvent): Promise<boolean> {
  const { sandboxId, run, sequence } = event;
  const transition = Object.hasOwn(transitions, event.event) ? transitions[event.event as SandboxEventName] : undefined;
  const heard = { run, event_sequence: sequence };
  for (;;) {
    const row = await findSandboxById(db, sandboxId);
    if (!row || row.host_id !== hostId || !isNews(event, row)) return false;
    if (!transition || nextSandboxStatus(row.status, transition) === undefined) {
      await noteHeard(db, sandboxId, heard);
      return false;
    }
    const changes: SandboxChanges = { status_reason: event.reason ?? null, ...heard };
    if (event.start_path !== undefined) changes.start_path = event.start_path;
    if (event.generationId) changes.generation_id = event.generationId;
    const beginsRun = transition === 'start_succeeded' || transition === 'resume_succeeded';
    const moved = await applyTransition(db, row, { transition, changes, beginsRun });
    if (moved && transition === 'auto_paused') await recordAutoPause(db, moved);
    if (moved) return true;
  }
}

/** False for what is known already, or was overtaken: neither clock is asked. */
function isNews(
  event: Pick<ParsedEvent, 'run' | 'sequence'>,
  row: Pick<SandboxRow, 'run' | 'event_sequence'>,
): boolean {
  return event.run >= row.run && event.sequence > row.event_sequence;
}
