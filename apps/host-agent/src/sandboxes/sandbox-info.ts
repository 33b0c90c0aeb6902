import { type SandboxInfo, SandboxInfoSchema, SandboxState } from '@aviary/proto/hostagent';
import { create } from '@bufbuild/protobuf';
import type { HostSandboxState } from '../registry/sandbox-record.ts';
import { type Sandbox, visibleReason } from '../registry/sandbox-registry.ts';

const states = {
  starting: SandboxState.STARTING,
  running: SandboxState.RUNNING,
  pausing: SandboxState.PAUSING,
  paused: SandboxState.PAUSED,
  resuming: SandboxState.RESUMING,
  stopping: SandboxState.STOPPING,
  error: SandboxState.ERROR,
} as const satisfies Record<HostSandboxState, SandboxState>;

/** A sandbox as the control plane sees it; `eventSequence` is the number of the host's newest event at this moment. */
export function toSandboxInfo(sandbox: Sandbox, eventSequence: number): SandboxInfo {
  const { record, running } = sandbox;
  return create(SandboxInfoSchema, {
    sandboxId: record.sandboxId,
    state: states[record.state],
    reason: visibleReason(sandbox),
    teamId: record.teamId,
    templateId: record.template.templateId,
    vcpus: record.vcpus,
    memoryMib: record.memoryMib,
    diskMib: record.diskMib,
    timeoutSec: record.timeoutSec,
    hostAddress: running?.slot.hostAddress ?? '',
    startPath: record.startPath ?? '',
    createdAtUnixMs: BigInt(record.createdAtMs),
    startedAtUnixMs: BigInt(record.startedAtMs),
    lastActiveAtUnixMs: BigInt(record.lastActiveAtMs),
    lastActivity: record.lastActivity,
    metadata: record.metadata,
    generationId: record.generationId ?? '',
    run: record.runNumber,
    eventSequence: BigInt(eventSequence),
  });
}
