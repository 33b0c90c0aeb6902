import type { GenerationId } from '@aviary/core';
import type { DiskLayer } from '../disk/disk-store.ts';
import {
  factsOf,
  type HostSandboxState,
  launchOf,
  type RecordIn,
  type Run,
  remainsOf,
  type SandboxFacts,
  type SandboxRecord,
} from './sandbox-record.ts';

/** What can happen to a sandbox on its host, with the facts that come with it. */
export type RecordEvent =
  /** A VMM has been started for it; its guest is not known to answer yet. */
  | { kind: 'launched'; run: Run }
  /** That run was given up and released. */
  | { kind: 'unlaunched' }
  /** Its guest answers and has its identity. */
  | ({ kind: 'started'; operationId: string; generationId?: GenerationId } & Pick<
      SandboxFacts,
      'reason' | 'metadata'
    > & {
        startPath: NonNullable<SandboxFacts['startPath']>;
        atMs: number;
      })
  | { kind: 'checkpoint_begun'; operationId: string; generationId: GenerationId }
  /** The generation is committed; `disk` is the layer that the guest writes to from then on, when it is another. */
  | { kind: 'checkpoint_switched'; generationId: GenerationId; disk?: DiskLayer }
  | { kind: 'checkpoint_ended' }
  | { kind: 'pause_begun'; operationId: string; generationId: GenerationId }
  /** The generation is durable: the sandbox is paused whatever happens from here on. */
  | { kind: 'pause_committed'; reason: string }
  /** All that the run held is free. `isUnasked`: its user had not asked for the pause. */
  | { kind: 'run_freed'; isUnasked: boolean }
  /** `isInterrupted`: by the end of the agent. Whoever asked for it asks again, and is not told of a failure. */
  | { kind: 'pause_failed'; reason: string; isInterrupted?: boolean }
  | ({ kind: 'resume_begun'; operationId: string } & Pick<SandboxFacts, 'timeoutSec' | 'hostToken' | 'accessToken'>)
  | { kind: 'resume_failed'; reason: string; isInterrupted?: boolean }
  /** Its microVM is gone, and nobody asked for that. */
  | { kind: 'lost'; reason: string }
  | { kind: 'destroy_begun'; operationId: string };

/** The states in which each event may happen. Anything else is a bug. */
export const recordEvents = {
  launched: ['starting', 'resuming'],
  unlaunched: ['starting', 'resuming'],
  started: ['starting', 'resuming'],
  checkpoint_begun: ['running'],
  checkpoint_switched: ['running'],
  checkpoint_ended: ['running'],
  pause_begun: ['running'],
  pause_committed: ['pausing'],
  run_freed: ['paused'],
  pause_failed: ['pausing'],
  resume_begun: ['paused', 'error'],
  resume_failed: ['resuming'],
  lost: ['running', 'pausing'],
  destroy_begun: ['starting', 'running', 'pausing', 'paused', 'resuming', 'stopping', 'error'],
} as const satisfies Record<RecordEvent['kind'], readonly HostSandboxState[]>;

/**
 * Events that tell what is so already, whether or not it can be written down: a journal that could not be written says what was before,
 * and the next agent comes to the same from there. Of all others nothing has happened until the journal says so.
 */
export const factualEvents: ReadonlySet<RecordEvent['kind']> = new Set([
  ...(['unlaunched', 'checkpoint_switched', 'checkpoint_ended', 'pause_committed', 'run_freed'] as const),
  ...(['pause_failed', 'resume_failed', 'lost'] as const),
]);

/**
 * Events that are not written down, because they are worth no flush: a journal that names a pause's generation, or a run that is not
 * there, says enough to whoever reads it.
 */
export const unwrittenEvents: ReadonlySet<RecordEvent['kind']> = new Set(['unlaunched', 'pause_committed'] as const);

/** The record after `event`. Pure; throws for an event that cannot happen in the record's state. */
export function step(record: SandboxRecord, event: RecordEvent): SandboxRecord {
  const facts = factsOf(record);
  switch (event.kind) {
    case 'launched': {
      const { run } = event;
      return { ...inState(record, event.kind), launch: { runDirectoryId: run.runDirectoryId, run } };
    }
    case 'unlaunched': {
      const runDirectoryId = remainsOf(record)?.runDirectoryId ?? record.sandboxId;
      return { ...inState(record, event.kind), launch: { runDirectoryId } };
    }
    case 'started': {
      const { run } = inState(record, event.kind).launch;
      if (!run) throw new Error('invariant broken: a sandbox runs without a microVM');
      const { kind: _kind, operationId, atMs, ...news } = event;
      const times = { startedAtMs: atMs, lastActiveAtMs: atMs, lastActivity: 'start' } as const;
      return { ...facts, ...news, ...times, lastOperationId: operationId, state: 'running', run };
    }
    case 'checkpoint_begun': {
      const { operationId, generationId } = event;
      return { ...inState(record, event.kind), checkpoint: { operationId, generationId } };
    }
    case 'checkpoint_switched': {
      const running = inState(record, event.kind);
      const { generationId, disk } = event;
      const run = disk ? { ...running.run, disk, diskGenerationId: generationId } : running.run;
      return { ...running, run, generationId };
    }
    case 'checkpoint_ended': {
      const { checkpoint: _ended, ...running } = inState(record, event.kind);
      return running;
    }
    case 'pause_begun': {
      const { run } = inState(record, event.kind);
      const { operationId, generationId } = event;
      return { ...facts, reason: '', state: 'pausing', run, pause: { operationId, generationId } };
    }
    case 'pause_committed': {
      const { run, pause } = inState(record, event.kind);
      const { operationId: lastOperationId, generationId } = pause;
      return { ...facts, reason: event.reason, lastOperationId, state: 'paused', generationId, freeing: run };
    }
    case 'run_freed': {
      const { freeing: _freed, ...paused } = inState(record, event.kind);
      return paused;
    }
    case 'pause_failed': {
      const { run } = inState(record, event.kind);
      return { ...facts, reason: event.reason, state: 'running', run };
    }
    case 'resume_begun': {
      const from = inState(record, event.kind);
      const { kind: _kind, operationId, ...news } = event;
      const remains = remainsOf(record);
      const back =
        from.state === 'paused'
          ? ({ state: 'paused', generationId: from.generationId } as const)
          : ({ state: 'error', ...(remains ? { remains } : {}) } as const);
      const launch = { runDirectoryId: launchOf(record).runDirectoryId };
      const runNumber = facts.runNumber + 1;
      return { ...facts, ...news, runNumber, reason: '', state: 'resuming', operationId, launch, back };
    }
    case 'resume_failed': {
      const { back } = inState(record, event.kind);
      return { ...facts, reason: event.reason, ...back };
    }
    case 'lost': {
      const { run } = inState(record, event.kind);
      const { runDirectoryId, disk, diskGenerationId } = run;
      const remains = { runDirectoryId, disk, ...(diskGenerationId === undefined ? {} : { diskGenerationId }) };
      return { ...facts, reason: event.reason, state: 'error', remains };
    }
    case 'destroy_begun':
      return { ...facts, reason: '', state: 'stopping', operationId: event.operationId, launch: launchOf(record) };
  }
}

function inState<K extends RecordEvent['kind']>(
  record: SandboxRecord,
  kind: K,
): RecordIn<(typeof recordEvents)[K][number]> {
  const allowed: readonly HostSandboxState[] = recordEvents[kind];
  if (!allowed.includes(record.state))
    throw new Error(`invariant broken: ${kind} happened to a sandbox that is ${record.state}`);
  return record as RecordIn<(typeof recordEvents)[K][number]>;
}
