import { minimalTemplateId, newId, platformTeamId } from '@aviary/core';
import { type RecordIn, recordVersion, type SandboxFacts } from '../registry/sandbox-record.ts';
import { machineFacts } from './machine-facts.ts';
import type { StartDeps } from './start-deps.ts';
import { newToken } from './start-micro-vm.ts';

type Deps = Pick<StartDeps, 'registry' | 'identity' | 'images'>;

/** What a new sandbox is told by whoever asks for it. */
export type NewSandbox = Pick<
  SandboxFacts,
  'sandboxId' | 'teamId' | 'template' | 'vcpus' | 'memoryMib' | 'diskMib' | 'timeoutSec' | 'defaultUser' | 'envs'
> &
  Partial<Pick<SandboxFacts, 'generationId' | 'isInternal'>> & { operationId: string };

/** The record of a sandbox about to start, with secrets of its own. */
export function newRecord(deps: Deps, asked: NewSandbox): RecordIn<'starting'> {
  const now = deps.registry.clock.now();
  return {
    version: recordVersion,
    state: 'starting',
    launch: { runDirectoryId: asked.sandboxId },
    runNumber: 1,
    reason: '',
    hostToken: newToken(),
    accessToken: newToken(),
    metadata: machineFacts(deps),
    createdAtMs: now,
    startedAtMs: 0,
    lastActiveAtMs: now,
    lastActivity: 'start',
    ...asked,
  };
}

/** The record of a microVM of the host's own, which nobody lists and the next agent removes. */
export function newInternalRecord(
  deps: Deps,
  { vcpus, memoryMib, diskMib }: Pick<SandboxFacts, 'vcpus' | 'memoryMib' | 'diskMib'>,
): RecordIn<'starting'> {
  return newRecord(deps, {
    sandboxId: newId('sandbox'),
    operationId: newId('operation'),
    isInternal: true,
    teamId: platformTeamId,
    template: { teamId: platformTeamId, templateId: minimalTemplateId },
    vcpus,
    memoryMib,
    diskMib,
    timeoutSec: 0,
    defaultUser: 'user',
    envs: {},
  });
}
