import type { Snapshot } from '@aviary/api-contract';
import { AppError, platformTeamId } from '@aviary/core';
import { recordAudit } from '../audit/audit-store.ts';
import { type Accepted, acceptCommand, type CommandContext, type CommandDeps } from '../operations/accept-command.ts';
import { findOwnTemplate, markDeleting } from '../templates/template-store.ts';
import { snapshotOperations } from './snapshot-operations.ts';
import { viewSnapshot } from './snapshot-view.ts';

/** Accepts the end of a team's template. Sandboxes made from it live on; its host keeps what they need. */
export function deleteSnapshot(deps: CommandDeps, context: CommandContext, name: string): Promise<Accepted<Snapshot>> {
  const { teamId, actor } = context;
  return acceptCommand(deps, context, async (unit) => {
    const { db } = unit;
    const row = await findOwnTemplate(db, teamId, name);
    if (!row) {
      if (teamId !== platformTeamId && (await findOwnTemplate(db, platformTeamId, name))) {
        throw new AppError('forbidden', `template ${name} belongs to the platform`);
      }
      throw new AppError('not_found', `there is no snapshot ${name}; GET /v1/snapshots lists yours`);
    }
    if (row.status === 'deleting') return { body: viewSnapshot(row), operationId: null };
    const marked = await markDeleting(db, { teamId, id: row.id });
    if (!marked) throw new AppError('invalid_state', `snapshot ${name} is being made; delete it when it is ready`);
    await recordAudit(db, {
      teamId,
      actor,
      resourceId: row.id,
      action: 'snapshot.delete',
      metadata: { name },
    });
    const operation = {
      teamId,
      sandboxId: null,
      kind: 'snapshot_delete',
      subject: { type: 'template', id: row.id },
      payload: { templateId: row.id },
    } as const;
    const operationId = await deps.runner.accept(unit, snapshotOperations, { operation });
    return { body: viewSnapshot(marked), operationId };
  });
}
