import { AppError } from '@aviary/core';
import type { ServiceContext } from '../context.ts';
import { type AgentDeps, callAgent } from '../hosts/agent-call.ts';
import type { OperationHandler } from '../operations/operation.ts';
import { failureReason, readSandbox } from './outcome.ts';
import { applyToLatest } from './sandbox-store.ts';

const destroyTimeoutMs = 4 * 60_000;

/**
 * Stops a sandbox for good. A user can always clear a sandbox: when its host does not answer, the row is stopped, and
 * the reconciler destroys what is left when the host comes back.
 */
export function destroyHandler(deps: AgentDeps & Pick<ServiceContext, 'database'>): OperationHandler<'destroy'> {
  const { db } = deps.database;
  return {
    retryBudgetMs: 10_000,
    async run(operation, signal) {
      const row = await readSandbox(db, operation);
      try {
        await callAgent(deps, row.host_id, (client) =>
          client.destroySandbox(
            { operationId: operation.id, sandboxId: row.id },
            { signal, timeoutMs: destroyTimeoutMs },
          ),
        );
      } catch (error) {
        if (!(error instanceof AppError && error.code === 'not_found')) throw error;
      }
      return async (transaction) => {
        await applyToLatest(transaction, row.id, { transition: 'stop_succeeded' });
      };
    },
    async fail(operation, error) {
      const row = await readSandbox(db, operation);
      const reason = `its host has not freed it yet (${failureReason(error)}); that is done when the host can`;
      return async (transaction) => {
        await applyToLatest(transaction, row.id, { transition: 'stop_succeeded', changes: { status_reason: reason } });
      };
    },
  };
}
