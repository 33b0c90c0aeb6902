import { AppError, newId, type OperationId, type TemplateId } from '@aviary/core';
import { sql } from 'kysely';
import type { Db, ServiceContext } from '../context.ts';
import { type AgentDeps, callAgent } from '../hosts/agent-call.ts';
import type { Operation, OperationHandler } from '../operations/operation.ts';
import { insertOperation } from '../operations/operation-store.ts';
import { failureReason, hostRetryMs, readSandbox } from '../sandboxes/outcome.ts';

const snapshotTimeoutMs = 9 * 60_000;

type Deps = AgentDeps & Pick<ServiceContext, 'database'>;

/** Saves a sandbox's state as a template; with `replaces`, the old one goes when the new one is whole. */
export function snapshotCreateHandler(deps: Deps): OperationHandler<'snapshot_create'> {
  const { db } = deps.database;
  return {
    retryBudgetMs: hostRetryMs,
    async run(operation, signal) {
      const row = await readSandbox(db, operation);
      const templateId = operation.payload.templateId as TemplateId;
      const size = await callAgent(deps, row.host_id, (client) =>
        client.createSnapshot(
          { operationId: operation.id, sandboxId: row.id, template: { teamId: row.team_id, templateId } },
          { signal, timeoutMs: snapshotTimeoutMs },
        ),
      );
      return async (transaction) => {
        const { replaces, name } = operation.payload;
        if (replaces) await retire(transaction, operation, replaces as TemplateId);
        await transaction
          .updateTable('templates')
          .set({
            name,
            status: 'ready',
            size_bytes: Number(size.sizeBytes),
            vcpus: size.vcpus || row.vcpus,
            memory_mib: size.memoryMib || row.memory_mib,
            disk_mib: size.diskMib || row.disk_mib,
          })
          .where('team_id', '=', operation.teamId)
          .where('id', '=', templateId)
          .execute();
      };
    },
    async fail(operation, error) {
      return async (transaction) => {
        await transaction
          .updateTable('templates')
          .set({ status: 'error', status_reason: failureReason(error) })
          .where('team_id', '=', operation.teamId)
          .where('id', '=', operation.payload.templateId as TemplateId)
          .execute();
      };
    },
  };
}

/** Frees the old template's name and leaves its deletion to any replica: the lease of that operation is over at once. */
async function retire(db: Db, operation: Operation, id: TemplateId): Promise<void> {
  await db
    .updateTable('templates')
    .set({ status: 'deleting', name: retiredName(id) })
    .where('team_id', '=', operation.teamId)
    .where('id', '=', id)
    .execute();
  const deletion = {
    id: newId('operation') as OperationId,
    teamId: operation.teamId,
    sandboxId: null,
    kind: 'snapshot_delete' as const,
    payload: { templateId: id },
  };
  await insertOperation(db, deletion, { owner: operation.id, ttlMs: 0 });
}

/** A name that no user can give, as it holds a slash. */
export function retiredName(id: TemplateId): string {
  return `retired/${id}`;
}

/** Deletes a template's files from its host, then its row. */
export function snapshotDeleteHandler(deps: Deps): OperationHandler<'snapshot_delete'> {
  const { db } = deps.database;
  const find = (operation: Operation<'snapshot_delete'>) =>
    db
      .selectFrom('templates')
      .select(['id', 'host_id'])
      .where('team_id', '=', operation.teamId)
      .where('id', '=', operation.payload.templateId as TemplateId)
      .executeTakeFirst();
  return {
    retryBudgetMs: 60_000,
    async run(operation, signal) {
      const template = await find(operation);
      const hostId = template?.host_id;
      if (hostId) {
        const target = { teamId: operation.teamId, templateId: template.id };
        await callAgent(deps, hostId, (client) =>
          client.deleteSnapshot({ operationId: operation.id, template: target }, { signal }),
        ).catch((error: unknown) => {
          if (!(error instanceof AppError && error.code === 'not_found')) throw error;
        });
      }
      return async (transaction) => {
        await transaction
          .deleteFrom('templates')
          .where('team_id', '=', operation.teamId)
          .where('id', '=', operation.payload.templateId as TemplateId)
          .execute();
      };
    },
    async fail(operation, error) {
      return async (transaction) => {
        await transaction
          .updateTable('templates')
          .set({
            status: 'error',
            status_reason: sql`${`cannot delete its files: ${failureReason(error)}; delete it again`}`,
          })
          .where('team_id', '=', operation.teamId)
          .where('id', '=', operation.payload.templateId as TemplateId)
          .execute();
      };
    },
  };
}
