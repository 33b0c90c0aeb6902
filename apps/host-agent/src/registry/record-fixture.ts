import { asId, minimalTemplateId, newId, platformTeamId } from '@aviary/core';
import type { HostSandboxState, RecordIn, Run, SandboxFacts, SandboxRecord } from './sandbox-record.ts';
import { recordVersion } from './sandbox-record.ts';

const id = (last: string) => `0190c2d4-0000-7000-8000-${last.padStart(12, '0')}`;
export const sandboxId = asId('sandbox', id('1'));
export const baseGenerationId = asId('generation', id('b1'));
export const ownGenerationId = asId('generation', id('b2'));
export const nextGenerationId = asId('generation', id('b3'));

export const facts: SandboxFacts = {
  version: recordVersion,
  sandboxId,
  teamId: platformTeamId,
  template: { teamId: platformTeamId, templateId: minimalTemplateId },
  vcpus: 1,
  memoryMib: 512,
  diskMib: 5_120,
  timeoutSec: 60,
  defaultUser: 'user',
  envs: { A: 'b' },
  runNumber: 2,
  reason: 'because',
  hostToken: 'host',
  accessToken: 'access',
  generationId: ownGenerationId,
  metadata: { vmm: 'fake' },
  createdAtMs: 1,
  startedAtMs: 2,
  lastActiveAtMs: 3,
  lastActivity: 'exec',
};

/** A run of a restored guest that came from the warm pool: its directory is another's. */
export const run: Run = {
  runDirectoryId: asId('sandbox', id('a1')),
  vmm: {
    ...{
      id: id('a1'),
      vmm: 'fake',
      pid: 4_711,
      startTicks: '1',
      socketPath: '/run/s',
      cgroupPaths: [],
      runDirectory: '/run',
    },
    guestMemory: { path: '/m', mapping: 'private' },
  },
  slotIndex: 3,
  disk: { path: '/disk', format: 'qcow2' },
  memory: {
    path: '/m',
    mapping: 'private',
    source: { storage: { generationId: baseGenerationId, storageId: id('c1') }, kind: 'full', path: '/m', needs: [] },
  },
  diskGenerationId: baseGenerationId,
};

const { runDirectoryId, disk } = run;
const operationId = newId('operation');

/** One record of each state. */
export const records: { [S in HostSandboxState]: RecordIn<S> } = {
  starting: { ...facts, state: 'starting', operationId, launch: { runDirectoryId, run } },
  running: { ...facts, state: 'running', run },
  pausing: { ...facts, state: 'pausing', run, pause: { operationId, generationId: nextGenerationId } },
  paused: { ...facts, state: 'paused', generationId: ownGenerationId },
  resuming: {
    ...{ ...facts, state: 'resuming', operationId, launch: { runDirectoryId, run } },
    back: { state: 'paused', generationId: ownGenerationId },
  },
  stopping: { ...facts, state: 'stopping', operationId, launch: { runDirectoryId, run } },
  error: { ...facts, state: 'error', remains: { runDirectoryId, disk, diskGenerationId: baseGenerationId } },
};

/** Other shapes that records have. */
export const variants: SandboxRecord[] = [
  { ...records.starting, launch: { runDirectoryId: sandboxId } },
  { ...records.running, checkpoint: { operationId, generationId: nextGenerationId } },
  { ...records.paused, freeing: run },
  { ...records.resuming, back: { state: 'error', remains: { runDirectoryId, disk } } },
  { ...facts, state: 'error' },
];
