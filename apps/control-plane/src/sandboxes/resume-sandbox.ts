import type { Sandbox } from '@aviary/api-contract';
import { type GenerationId, type SandboxId, sandboxStatusTraits } from '@aviary/core';
import type { Db } from '../context.ts';
import { type PlacementOptions, placeSandboxes } from '../hosts/placement.ts';
import type { Accepted, CommandContext, CommandDeps } from '../operations/accept-command.ts';
import { reserveQuota } from '../quotas/reserve-quota.ts';
import { acceptSandboxCommand } from './accept-sandbox-command.ts';
import type { SandboxRow } from './sandbox-store.ts';

type Deps = CommandDeps & { placement: PlacementOptions };

/** Accepts a resume, from the latest generation unless one is given; its memory and cores are reserved on its host again. */
export function resumeSandbox(
  deps: Deps,
  context: CommandContext,
  { sandboxId, generationId, isCold }: { sandboxId: SandboxId; generationId: GenerationId | null; isCold: boolean },
): Promise<Accepted<Sandbox>> {
  return acceptSandboxCommand(deps, context, {
    sandboxId,
    action: 'resume',
    transition: 'resume_requested',
    step: { kind: 'resume', payload: { generationId, isCold } },
    prepare: (db, row) => reserve(deps, db, row),
  });
}

/** Accepts a return to an older generation. What is newer stays kept, as another branch. */
export function rewindSandbox(
  deps: Deps,
  context: CommandContext,
  { sandboxId, generationId }: { sandboxId: SandboxId; generationId: GenerationId },
): Promise<Accepted<Sandbox>> {
  return acceptSandboxCommand(deps, context, {
    sandboxId,
    action: 'rewind',
    transition: 'rewind_requested',
    step: { kind: 'resume', payload: { generationId } },
    prepare: (db, row) => reserve(deps, db, row),
  });
}

async function reserve({ placement }: Deps, db: Db, row: SandboxRow): Promise<void> {
  if (sandboxStatusTraits[row.status].reservesCompute) return;
  // Its disk is counted already.
  const size = { vcpus: row.vcpus, memoryMib: row.memory_mib, diskMib: 0 };
  await reserveQuota(db, row.team_id, { vcpus: row.vcpus, memory_mib: row.memory_mib });
  await placeSandboxes(db, { teamId: row.team_id, size, onlyHost: row.host_id }, placement);
}
