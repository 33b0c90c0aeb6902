import type { CreateSandbox, Sandbox } from '@aviary/api-contract';
import { AppError, must, newId, sandboxLimits } from '@aviary/core';
import { recordAudit } from '../audit/audit-store.ts';
import type { ServiceContext } from '../context.ts';
import { type PlacementOptions, placeSandboxes, type SandboxSize } from '../hosts/placement.ts';
import { type Accepted, acceptCommand, type CommandContext, type CommandDeps } from '../operations/accept-command.ts';
import { PhaseLog } from '../operations/phase-log.ts';
import { reserveQuota } from '../quotas/reserve-quota.ts';
import { resolveTemplate, type TemplateRow } from '../templates/template-store.ts';
import { checkEntryBytes } from './entry-bytes.ts';
import { sandboxOperations } from './sandbox-operations.ts';
import { insertSandboxes } from './sandbox-store.ts';
import { viewSandbox } from './sandbox-view.ts';

/** Accepts a new sandbox: its row, which reserves its place on a host, and the operation that boots it. */
export function createSandbox(
  deps: CommandDeps & Pick<ServiceContext, 'clock'> & { placement: PlacementOptions },
  context: CommandContext,
  request: CreateSandbox,
): Promise<Accepted<Sandbox>> {
  checkEntryBytes('metadata', request.metadata, sandboxLimits.metadataBytes);
  checkEntryBytes('envs', request.envs, sandboxLimits.envBytes);
  return acceptCommand(deps, context, async (unit) => {
    const { db } = unit;
    const { teamId, actor } = context;
    const template = await resolveTemplate(db, teamId, request.template ?? 'minimal');
    const size = chooseSize(template, request);
    await reserveQuota(db, teamId, {
      sandboxes: 1,
      vcpus: size.vcpus,
      memory_mib: size.memoryMib,
      disk_mib: size.diskMib,
    });
    const id = newId('sandbox');
    // Before a host is chosen, which stays locked to the end.
    await recordAudit(db, { teamId, actor, resourceId: id, action: 'sandbox.create' });
    const phases = new PhaseLog(deps.clock);
    const hostId = await phases.time('placed', () =>
      placeSandboxes(db, { teamId, size, onlyHost: template.host_id }, deps.placement),
    );
    const sandbox = {
      id,
      team_id: teamId,
      host_id: hostId,
      template_team_id: template.team_id,
      template_id: template.id,
      template_name: template.name,
      status: 'starting' as const,
      vcpus: size.vcpus,
      memory_mib: size.memoryMib,
      disk_mib: size.diskMib,
      timeout_sec: request.timeout_sec ?? sandboxLimits.timeoutSec.default,
      metadata: JSON.stringify(request.metadata ?? {}),
    };
    const [row] = await insertSandboxes(db, [sandbox], { status: sandbox.status });
    const operation = {
      teamId,
      sandboxId: id,
      kind: 'create',
      subject: { type: 'sandbox', id },
      payload: { envs: request.envs ?? {} },
    } as const;
    const operationId = await deps.runner.accept(unit, sandboxOperations, { operation, phases: phases.phases });
    return { body: viewSandbox(must(row, 'the sandbox was inserted')), operationId };
  });
}

/** What the request asks for, or the template's size. A snapshot's memory has its shape already: only the same is allowed. */
function chooseSize(template: TemplateRow, request: CreateSandbox): SandboxSize {
  const asked = { vcpus: request.vcpus, memory_mb: request.memory_mb, disk_size_mb: request.disk_size_mb };
  const own = { vcpus: template.vcpus, memory_mb: template.memory_mib, disk_size_mb: template.disk_mib };
  for (const field of ['vcpus', 'memory_mb', 'disk_size_mb'] as const) {
    const value = asked[field];
    if (value === undefined || value === own[field]) continue;
    if (template.kind !== 'snapshot') {
      // A base's memory and cores are the sandbox's to choose; its disk is there already.
      if (field !== 'disk_size_mb' || value > own[field]) continue;
      const smallest = `disk_size_mb must be at least ${own[field]}, the disk of the template ${template.name}`;
      throw new AppError('invalid_request', smallest, {
        details: { field, template: template.name, value: own[field] },
      });
    }
    const message = `${field} must be ${own[field]}, as in the snapshot ${template.name}: leave it out`;
    throw new AppError('invalid_request', message, { details: { field, template: template.name, value: own[field] } });
  }
  return {
    vcpus: asked.vcpus ?? own.vcpus,
    memoryMib: asked.memory_mb ?? own.memory_mb,
    diskMib: asked.disk_size_mb ?? own.disk_size_mb,
  };
}
