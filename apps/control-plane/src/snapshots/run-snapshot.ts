import { AppError, must, newId } from '@aviary/core';
import type { UnitOfWork } from '@aviary/database';
import { currentTrace } from '@aviary/service-kit';
import type { ServiceContext } from '../context.ts';
import { type AgentDeps, callAgent } from '../hosts/agent-call.ts';
import type { NewOperation, OperationHandlers, OperationOf } from '../operations/operation.ts';
import { insertOperation } from '../operations/operation-store.ts';
import { hostRetryMs } from '../sandboxes/outcome.ts';
import { findSandboxById } from '../sandboxes/sandbox-store.ts';
import {
  completeTemplate,
  deleteTemplate,
  failTemplate,
  findOwnTemplate,
  findTemplate,
  retireTemplate,
} from '../templates/template-store.ts';
import type { snapshotOperations } from './snapshot-operations.ts';
import { viewSnapshot } from './snapshot-view.ts';

const snapshotTimeoutMs = 9 * 60_000;
const deleteRetryMs = 60_000;

type Definitions = typeof snapshotOperations;
type Deps = AgentDeps & Pick<ServiceContext, 'database'>;

/** What carries out each of {@link snapshotOperations}. */
export function snapshotHandlers(deps: Deps): OperationHandlers<Definitions> {
  return { snapshot_create: createHandler(deps), snapshot_delete: deleteHandler(deps) };
}

/** Saves a sandbox's state as a template; with `replaces`, the one that has its name goes when the new one is whole. */
function createHandler(deps: Deps): OperationHandlers<Definitions>['snapshot_create'] {
  const { db } = deps.database;
  return {
    retryBudgetMs: hostRetryMs,
    async run(operation, { signal, phases }) {
      const sourceId = must(operation.sandboxId, 'a snapshot is made of a sandbox');
      const source = must(
        await findSandboxById(db, sourceId),
        'sandboxes are never deleted while operations name them',
      );
      const { templateId, replaces, name } = operation.payload;
      const request = {
        operationId: operation.id,
        sandboxId: source.id,
        template: { teamId: source.team_id, templateId },
      };
      const size = await phases.time('agent', () =>
        callAgent(deps, source.host_id, (client) =>
          client.createSnapshot(request, { signal, timeoutMs: snapshotTimeoutMs }),
        ),
      );
      return async (unit) => {
        if (replaces) await retireHolder(unit, operation);
        const row = await completeTemplate(
          unit.db,
          { teamId: operation.teamId, id: templateId },
          {
            name,
            size_bytes: Number(size.sizeBytes),
            vcpus: size.vcpus || source.vcpus,
            memory_mib: size.memoryMib || source.memory_mib,
            disk_mib: size.diskMib || source.disk_mib,
          },
        );
        return { state: 'succeeded', result: viewSnapshot(row) };
      };
    },
    async fail({ teamId, payload: { templateId } }, failure) {
      const code = failure.code === 'not_found' ? 'internal' : failure.code;
      return async (unit) => {
        await failTemplate(unit.db, { teamId, id: templateId }, failure.message);
        const details = { ...failure.details, status: 'error', status_reason: failure.message };
        return { state: 'failed', error: new AppError(code, `the snapshot failed: ${failure.message}`, { details }) };
      };
    },
  };
}

/**
 * Frees the name of the new template from the one that has it now, another replacement perhaps that was whole before, and leaves that
 * one's deletion to any replica: the lease of its operation is over at once.
 */
async function retireHolder(
  { db }: UnitOfWork,
  { id: owner, teamId, payload }: OperationOf<Definitions, 'snapshot_create'>,
): Promise<void> {
  const holder = await findOwnTemplate(db, teamId, payload.name);
  if (!holder || holder.id === payload.templateId) return;
  const templateId = holder.id;
  await retireTemplate(db, { teamId, id: templateId });
  const deletion: NewOperation<Definitions, 'snapshot_delete'> = {
    teamId,
    sandboxId: null,
    kind: 'snapshot_delete',
    subject: { type: 'template', id: templateId },
    payload: { templateId },
  };
  const requestId = currentTrace().requestId ?? null;
  await insertOperation(db, { ...deletion, id: newId('operation'), requestId }, { owner, ttlMs: 0 });
}

/** Deletes a template's files from its host, then its row. */
function deleteHandler(deps: Deps): OperationHandlers<Definitions>['snapshot_delete'] {
  const { db } = deps.database;
  return {
    retryBudgetMs: deleteRetryMs,
    async run({ id: operationId, teamId, payload: { templateId } }, { signal, phases }) {
      const row = await findTemplate(db, { teamId, id: templateId });
      const hostId = row?.host_id;
      if (hostId) {
        const request = { operationId, template: { teamId, templateId } };
        await phases
          .time('agent', () => callAgent(deps, hostId, (client) => client.deleteSnapshot(request, { signal })))
          .catch((error: unknown) => {
            if (!(error instanceof AppError && error.code === 'not_found')) throw error;
          });
      }
      return async (unit) => {
        await deleteTemplate(unit.db, { teamId, id: templateId });
        return { state: 'succeeded', result: row ? viewSnapshot(row) : {} };
      };
    },
    async fail({ teamId, payload: { templateId } }, failure) {
      const reason = `cannot delete its files: ${failure.message}; delete it again`;
      return async (unit) => {
        await failTemplate(unit.db, { teamId, id: templateId }, reason);
        const details = { ...failure.details, status: 'error', status_reason: reason };
        return { state: 'failed', error: new AppError(failure.code, reason, { details }) };
      };
    },
  };
}
