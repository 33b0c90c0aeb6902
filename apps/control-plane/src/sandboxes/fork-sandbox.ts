import type { Fork, Sandbox } from '@aviary/api-contract';
import { canSandbox, nameLabel, newId, type SandboxId, sandboxLimits } from '@aviary/core';
import { recordAudit } from '../audit/audit-store.ts';
import type { ServiceContext } from '../context.ts';
import { type PlacementOptions, placeSandboxes } from '../hosts/placement.ts';
import { type Accepted, acceptCommand, type CommandContext, type CommandDeps } from '../operations/accept-command.ts';
import { PhaseLog } from '../operations/phase-log.ts';
import { reserveQuota } from '../quotas/reserve-quota.ts';
import { sandboxOperations } from './sandbox-operations.ts';
import { getSandbox, insertSandboxes, stateConflict } from './sandbox-store.ts';
import { viewSandbox } from './sandbox-view.ts';

/** Accepts copies of a running or paused sandbox, on its host: with its labels, but for its name. The source's status does not change. */
export function forkSandbox(
  deps: CommandDeps & Pick<ServiceContext, 'clock'> & { placement: PlacementOptions },
  context: CommandContext,
  { sandboxId, request }: { sandboxId: SandboxId; request: Fork },
): Promise<Accepted<{ items: Sandbox[] }>> {
  const count = request.count ?? sandboxLimits.forkCount.default;
  return acceptCommand(deps, context, async (unit) => {
    const { db } = unit;
    const { teamId, actor } = context;
    const source = await getSandbox(db, teamId, sandboxId);
    if (!canSandbox('fork', source.status)) throw stateConflict(source, 'fork');
    const size = { vcpus: source.vcpus, memoryMib: source.memory_mib, diskMib: source.disk_mib };
    await reserveQuota(db, teamId, {
      sandboxes: count,
      vcpus: size.vcpus * count,
      memory_mib: size.memoryMib * count,
      disk_mib: size.diskMib * count,
    });
    // Before its host is locked, to the end.
    await recordAudit(db, {
      teamId,
      actor,
      resourceId: sandboxId,
      action: 'sandbox.fork',
      metadata: { count },
    });
    const phases = new PhaseLog(deps.clock);
    await phases.time('placed', () =>
      placeSandboxes(db, { teamId, size, count, onlyHost: source.host_id }, deps.placement),
    );
    const targets = Array.from({ length: count }, () => newId('sandbox'));
    const { [nameLabel]: _name, ...labels } = source.metadata;
    const timeoutSec = request.timeout_sec ?? source.timeout_sec;
    const copies = targets.map((id) => ({
      id,
      team_id: teamId,
      host_id: source.host_id,
      template_team_id: source.template_team_id,
      template_id: source.template_id,
      template_name: source.template_name,
      status: 'starting' as const,
      vcpus: source.vcpus,
      memory_mib: source.memory_mib,
      disk_mib: source.disk_mib,
      timeout_sec: timeoutSec,
      metadata: JSON.stringify(labels),
    }));
    const rows = await insertSandboxes(db, copies, { source: sandboxId });
    const operation = {
      teamId,
      sandboxId,
      kind: 'fork',
      subject: { type: 'sandbox', id: sandboxId },
      payload: { targets, timeoutSec },
    } as const;
    const operationId = await deps.runner.accept(unit, sandboxOperations, { operation, phases: phases.phases });
    return { body: { items: rows.map(viewSandbox) }, operationId };
  });
}
