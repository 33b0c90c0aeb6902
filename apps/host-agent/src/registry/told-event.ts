import type { EventFacts, SandboxEventName } from '../control-plane/event-outbox.ts';
import type { SandboxRecord } from './sandbox-record.ts';
import type { RecordEvent } from './sandbox-step.ts';

/** What the control plane is told of an event: nothing of those that it has not asked about and that change no status. */
export function toldEvent(
  before: SandboxRecord,
  event: RecordEvent,
  after: SandboxRecord,
): { name: SandboxEventName; facts: EventFacts } | undefined {
  if (after.isInternal) return undefined;
  const generation = after.generationId === undefined ? {} : { generation_id: after.generationId };
  const reason = after.reason === '' ? {} : { reason: after.reason };
  switch (event.kind) {
    case 'started': {
      const facts = { start_path: after.startPath ?? '', ...generation, ...reason };
      return { name: before.state === 'starting' ? 'sandbox.started' : 'sandbox.resumed', facts };
    }
    case 'run_freed': {
      const name = event.isUnasked ? 'sandbox.auto_paused' : 'sandbox.paused';
      return { name, facts: { ...generation, ...reason } };
    }
    case 'pause_failed':
      return event.isInterrupted ? undefined : { name: 'sandbox.pause_failed', facts: reason };
    case 'resume_failed':
      return event.isInterrupted ? undefined : { name: 'sandbox.resume_failed', facts: reason };
    case 'lost':
      return { name: 'sandbox.error', facts: reason };
    default:
      return undefined;
  }
}
