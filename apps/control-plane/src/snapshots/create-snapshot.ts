import type { CreateSnapshot, Snapshot } from '@aviary/api-contract';
import { AppError, canSandbox, newId, parseId } from '@aviary/core';
import { recordAudit } from '../audit/audit-store.ts';
import { type Accepted, acceptCommand, type CommandContext, type CommandDeps } from '../operations/accept-command.ts';
import { reserveQuota } from '../quotas/reserve-quota.ts';
import { getSandbox, stateConflict } from '../sandboxes/sandbox-store.ts';
import { findOwnTemplate, insertTemplate } from '../templates/template-store.ts';
import { snapshotOperations } from './snapshot-operations.ts';
import { viewSnapshot } from './snapshot-view.ts';

/** Accepts a template made of a running or paused sandbox, which goes on as it is. Throws `already_exists` without `overwrite`. */
export function createSnapshot(
  deps: CommandDeps,
  context: CommandContext,
  request: CreateSnapshot,
): Promise<Accepted<Snapshot>> {
  const { teamId, actor } = context;
  return acceptCommand(deps, context, async (unit) => {
    const { db } = unit;
    const sandbox = await getSandbox(db, teamId, parseId('sandbox', request.sandbox_id));
    if (!canSandbox('snapshot', sandbox.status)) throw stateConflict(sandbox, 'snapshot');
    const taken = await findOwnTemplate(db, teamId, request.name);
    if (taken && (!request.overwrite || taken.status === 'creating')) {
      const hint = taken.status === 'creating' ? 'it is being made' : 'send overwrite to replace it';
      throw new AppError('already_exists', `there is a snapshot ${request.name} already: ${hint}`, {
        details: { field: 'name' },
      });
    }
    // One that replaces another takes its place.
    if (!taken) await reserveQuota(db, teamId, { templates: 1 });
    const id = newId('template');
    const row = await insertTemplate(db, {
      id,
      team_id: teamId,
      // The old one keeps the name until the new one is whole. No user can give a name with a slash.
      name: taken ? `pending/${id}` : request.name,
      kind: 'snapshot',
      status: 'creating',
      vcpus: sandbox.vcpus,
      memory_mib: sandbox.memory_mib,
      disk_mib: sandbox.disk_mib,
      host_id: sandbox.host_id,
    });
    await recordAudit(db, {
      teamId,
      actor,
      resourceId: id,
      action: 'snapshot.create',
      metadata: { name: request.name },
    });
    const operation = {
      teamId,
      sandboxId: sandbox.id,
      kind: 'snapshot_create',
      subject: { type: 'template', id },
      payload: { templateId: id, replaces: taken?.id ?? null, name: request.name },
    } as const;
    const operationId = await deps.runner.accept(unit, snapshotOperations, { operation });
    return { body: { ...viewSnapshot(row), name: request.name }, operationId };
  });
}
