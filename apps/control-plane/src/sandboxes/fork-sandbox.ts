import type { Fork, Sandbox } from '@aviary/api-contract';
import { canSandbox, newId, type SandboxId, sandboxLimits } from '@aviary/core';
import { recordAudit, recordEvent } from '../events.ts';
import { type PlacementOptions, placeSandboxes } from '../hosts/placement.ts';
import { type Accepted, acceptCommand, type CommandContext, type CommandDeps } from '../operations/accept-command.ts';
import { getSandbox, sandboxColumns, stateConflict } from './sandbox-store.ts';
import { viewSandbox } from './sandbox-view.ts';

/** Accepts copies of a running or paused sandbox, on its host. The source's status does not change. */
export function forkSandbox(
  deps: CommandDeps & { placement: PlacementOptions },
  context: CommandContext,
  { sandboxId, request }: { sandboxId: SandboxId; request: Fork },
): Promise<Accepted<{ items: Sandbox[] }>> {
  const count = request.count ?? sandboxLimits.forkCount.default;
  return acceptCommand(deps, context, async (db) => {
    const { teamId, actor } = context;
    const source = await getSandbox(db, teamId, sandboxId);
    if (!canSandbox('fork', source.status)) throw stateConflict(source, 'fork');
    const size = { vcpus: source.vcpus, memoryMib: source.memory_mib, diskMib: source.disk_mib };
    await placeSandboxes(db, { teamId, size, count, onlyHost: source.host_id }, deps.placement);
    const targets = Array.from({ length: count }, () => newId('sandbox'));
    const timeoutSec = request.timeout_sec ?? source.timeout_sec;
    const rows = await db
      .insertInto('sandboxes')
      .values(
        targets.map((id) => ({
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
          metadata: JSON.stringify(source.metadata),
        })),
      )
      .returning(sandboxColumns)
      .execute();
    for (const id of targets)
      await recordEvent(db, { teamId, sandboxId: id, type: 'sandbox.created', payload: { source: sandboxId } });
    await recordAudit(db, {
      teamId,
      actor,
      resourceType: 'sandbox',
      resourceId: sandboxId,
      action: 'sandbox.fork',
      metadata: { count },
    });
    const payload = { targets, timeoutSec };
    const operation = await deps.runner.accept(db, {
      id: newId('operation'),
      teamId,
      sandboxId,
      kind: 'fork',
      payload,
    });
    return { body: { items: rows.map(viewSandbox) }, operations: [operation] };
  });
}
