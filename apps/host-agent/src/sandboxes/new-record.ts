import { minimalTemplateId, newId, platformTeamId } from '@aviary/core';
import { machineFacts } from './machine-facts.ts';
import type { SandboxContext } from './sandbox-context.ts';
import type { SandboxRecord } from './sandbox-record.ts';
import { newToken } from './start-micro-vm.ts';

/** What a new sandbox is told by whoever asks for it. */
export type NewSandbox = Pick<
  SandboxRecord,
  'sandboxId' | 'teamId' | 'template' | 'vcpus' | 'memoryMib' | 'diskMib' | 'timeoutSec' | 'defaultUser' | 'envs'
> &
  Partial<Pick<SandboxRecord, 'intent' | 'generationId' | 'isInternal'>>;

/** The record of a sandbox about to start, with secrets of its own. */
export function newRecord(context: SandboxContext, asked: NewSandbox): SandboxRecord {
  const now = context.registry.clock.now();
  return {
    version: 1,
    homeId: asked.sandboxId,
    state: 'starting',
    run: 1,
    reason: '',
    hostToken: newToken(),
    accessToken: newToken(),
    metadata: machineFacts(context),
    createdAtMs: now,
    startedAtMs: 0,
    lastActiveAtMs: now,
    lastActivity: 'start',
    ...asked,
  };
}

/** The record of a microVM of the host's own, which nobody lists and the next agent removes. */
export function newInternalRecord(
  context: SandboxContext,
  { vcpus, memoryMib, diskMib }: Pick<SandboxRecord, 'vcpus' | 'memoryMib' | 'diskMib'>,
): SandboxRecord {
  return newRecord(context, {
    sandboxId: newId('sandbox'),
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
