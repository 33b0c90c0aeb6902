import { silentLogger, systemClock } from '@aviary/service-kit';
import { beforeEach, expect, it } from 'vitest';
import { nextGenerationId, records } from './record-fixture.ts';
import type { SandboxRecord } from './sandbox-record.ts';
import { SandboxRegistry } from './sandbox-registry.ts';

let written: SandboxRecord[] = [];
let told: [string, object][] = [];
let isDiskFull = false;
let registry: SandboxRegistry;

beforeEach(() => {
  [written, told, isDiskFull] = [[], [], false];
  const journal = {
    write: async (record: SandboxRecord) => {
      if (isDiskFull) throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' });
      written.push(record);
    },
    remove: async () => undefined,
  };
  const push: SandboxRegistry['events']['push'] = async (name, _id, facts = {}) => void told.push([name, facts]);
  registry = new SandboxRegistry({ journal, clock: systemClock, events: { push, sequence: 0 }, logger: silentLogger });
});

const pauseBegun = { kind: 'pause_begun', operationId: 'op', generationId: nextGenerationId } as const;

it('writes a change down before it counts, and tells of it after', async () => {
  const sandbox = registry.add(records.running);
  await registry.transition(sandbox, pauseBegun);
  expect([sandbox.record.state, written.at(-1)?.state, told]).toEqual(['pausing', 'pausing', []]);
  await registry.transition(sandbox, { kind: 'pause_committed', reason: 'idle' });
  // The journal says enough already; nothing is told before the run is free.
  expect([sandbox.record.state, written.length, told.length]).toEqual(['paused', 1, 0]);
  await registry.transition(sandbox, { kind: 'run_freed', isUnasked: true });
  expect(written.at(-1)).toEqual(sandbox.record);
  expect(told).toEqual([['sandbox.auto_paused', { generation_id: nextGenerationId, reason: 'idle' }]]);
});

it('begins nothing that it cannot write down, and takes what has happened as it is', async () => {
  const sandbox = registry.add(records.running);
  isDiskFull = true;
  await expect(registry.transition(sandbox, pauseBegun)).rejects.toThrow('ENOSPC');
  expect(sandbox.record).toBe(records.running);
  await registry.transition(sandbox, { kind: 'lost', reason: 'gone' });
  expect([sandbox.record.state, told]).toEqual([
    'error',
    [['sandbox.error', expect.objectContaining({ reason: 'gone' })]],
  ]);
  await expect(registry.create(records.starting)).rejects.toThrow('ENOSPC');
});

it('keeps what somebody did with a sandbox while a change was written', async () => {
  const sandbox = registry.add(records.running);
  const begun = registry.transition(sandbox, pauseBegun);
  registry.touch(sandbox, 'ping');
  await begun;
  expect(sandbox.record).toMatchObject({ state: 'pausing', lastActivity: 'ping' });
});

it('tells nobody of microVMs of its own, nor of what the next agent is asked again', async () => {
  const own = registry.add({ ...records.running, isInternal: true });
  await registry.transition(own, { kind: 'lost', reason: 'gone' });
  const interrupted = registry.add(records.pausing);
  await registry.transition(interrupted, { kind: 'pause_failed', reason: 'ended', isInterrupted: true });
  expect(told).toEqual([]);
});
