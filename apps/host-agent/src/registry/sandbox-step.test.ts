import { newId } from '@aviary/core';
import { describe, expect, it } from 'vitest';
import {
  baseGenerationId,
  facts,
  nextGenerationId,
  ownGenerationId,
  records,
  run,
  sandboxId,
  variants,
} from './record-fixture.ts';
import { parseRecord } from './sandbox-journal.ts';
import { type HostSandboxState, rootsOf, type SandboxRecord } from './sandbox-record.ts';
import { type RecordEvent, recordEvents, step } from './sandbox-step.ts';

const operationId = newId('operation');
const secrets = { hostToken: 'new host', accessToken: 'new access' };
const layer = { path: '/next', format: 'qcow2' } as const;
const events: { [K in RecordEvent['kind']]: Extract<RecordEvent, { kind: K }> } = {
  launched: { kind: 'launched', run },
  unlaunched: { kind: 'unlaunched' },
  started: { kind: 'started', operationId, startPath: 'restore', reason: '', metadata: {}, atMs: 9 },
  checkpoint_begun: { kind: 'checkpoint_begun', operationId, generationId: nextGenerationId },
  checkpoint_switched: { kind: 'checkpoint_switched', generationId: nextGenerationId, disk: layer },
  checkpoint_ended: { kind: 'checkpoint_ended' },
  pause_begun: { kind: 'pause_begun', operationId, generationId: nextGenerationId },
  pause_committed: { kind: 'pause_committed', reason: '' },
  run_freed: { kind: 'run_freed', isUnasked: false },
  pause_failed: { kind: 'pause_failed', reason: 'no' },
  resume_begun: { kind: 'resume_begun', operationId, timeoutSec: 5, ...secrets },
  resume_failed: { kind: 'resume_failed', reason: 'no' },
  lost: { kind: 'lost', reason: 'gone' },
  destroy_begun: { kind: 'destroy_begun', operationId },
};
/** Where each event leads; by default to the state it happened in. */
const after: Partial<Record<RecordEvent['kind'], HostSandboxState>> = {
  ...{ started: 'running', pause_begun: 'pausing', pause_committed: 'paused', pause_failed: 'running' },
  ...{ resume_begun: 'resuming', resume_failed: 'paused', lost: 'error', destroy_begun: 'stopping' },
};
const states = Object.keys(records) as HostSandboxState[];
const kinds = Object.keys(recordEvents) as RecordEvent['kind'][];

describe.each(kinds)('%s', (kind) => {
  const allowed: readonly HostSandboxState[] = recordEvents[kind];

  it.each(states)('in %s', (state) => {
    const before = structuredClone(records[state]);
    if (!allowed.includes(state)) {
      expect(() => step(records[state], events[kind])).toThrow(`${kind} happened to a sandbox that is ${state}`);
    } else {
      const record = step(records[state], events[kind]);
      expect(record.state).toBe(after[kind] ?? state);
      // What the journal would give back to the next agent is the same, and fits its state.
      expect(parseRecord(JSON.stringify(record))).toEqual(record);
    }
    expect(records[state]).toEqual(before);
  });
});

it('goes through a life and back, and keeps who the sandbox is', () => {
  const go = (record: SandboxRecord, ...kinds: RecordEvent['kind'][]) =>
    kinds.reduce((now, kind) => step(now, events[kind]), record);
  const { generationId: _none, ...newcomer } = facts;
  const fresh: SandboxRecord = { ...newcomer, state: 'starting', operationId, launch: { runDirectoryId: sandboxId } };
  const running = go(fresh, 'launched', 'unlaunched', 'launched', 'started');
  expect(running).toMatchObject({ state: 'running', run, lastOperationId: operationId, startedAtMs: 9, reason: '' });
  const paused = go(running, 'pause_begun', 'pause_committed');
  expect(paused).toMatchObject({ state: 'paused', generationId: nextGenerationId, freeing: run });
  const freed = go(paused, 'run_freed');
  expect(freed).not.toHaveProperty('freeing');
  const resuming = go(freed, 'resume_begun');
  expect(resuming).toMatchObject({ ...secrets, timeoutSec: 5, runNumber: 3, launch: { runDirectoryId: sandboxId } });
  expect(go(resuming, 'resume_failed')).toEqual({ ...freed, ...secrets, timeoutSec: 5, runNumber: 3, reason: 'no' });
  const lost = go(resuming, 'launched', 'started', 'lost');
  expect(lost).toMatchObject({ state: 'error', remains: { disk: run.disk }, generationId: nextGenerationId });
  // From the directory that its last layer is in: another's, as it came from the warm pool.
  expect(go(lost, 'resume_begun')).toMatchObject({ launch: { runDirectoryId: run.runDirectoryId } });
  expect(go(lost, 'resume_begun', 'resume_failed')).toMatchObject({ state: 'error', remains: { disk: run.disk } });
});

it('goes on above the layer that a checkpoint took, or on the same where nothing was switched', () => {
  const { disk: _same, ...unswitched } = events.checkpoint_switched;
  expect(step(records.running, events.checkpoint_switched)).toMatchObject({
    ...{ generationId: nextGenerationId, run: { disk: layer, diskGenerationId: nextGenerationId } },
  });
  expect(step(records.running, unswitched)).toMatchObject({ generationId: nextGenerationId, run });
});

it('names as needed what a run reads from, in every state that has one', () => {
  const needs = (record: SandboxRecord) =>
    rootsOf(record).map(({ generationId, storageId }) => storageId ?? generationId);
  const { storage } = run.memory.mapping === 'private' ? run.memory.source : { storage: { storageId: '' } };
  for (const state of ['starting', 'running', 'pausing', 'resuming', 'stopping'] as const)
    expect(needs(records[state])).toEqual([ownGenerationId, baseGenerationId, storage.storageId]);
  expect(needs(records.paused)).toEqual([ownGenerationId]);
  expect(needs(records.error)).toEqual([ownGenerationId, baseGenerationId]);
  expect(variants.map(needs).every((ids) => ids.includes(ownGenerationId))).toBe(true);
});
