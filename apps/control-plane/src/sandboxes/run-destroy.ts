import { AppError } from '@aviary/core';
import type { ServiceContext } from '../context.ts';
import { type AgentDeps, callAgent } from '../hosts/agent-call.ts';
import { moveSandbox, readSandbox } from './outcome.ts';
import type { SandboxOperationHandler } from './sandbox-operations.ts';

const destroyTimeoutMs = 4 * 60_000;

/**
 * Stops a sandbox for good. A user can always clear a sandbox: when its host does not answer, the row is stopped, and
 * the reconciler destroys what is left when the host comes back.
 */
export function destroyHandler(deps: AgentDeps & Pick<ServiceContext, 'database'>): SandboxOperationHandler<'destroy'> {
  const { db } = deps.database;
  return {
    retryBudgetMs: 10_000,
    async run(operation, { signal, phases }) {
      const row = await readSandbox(db, operation);
      const request = { operationId: operation.id, sandboxId: row.id };
      try {
        await phases.time('agent', () =>
          callAgent(deps, row.host_id, (client) =>
            client.destroySandbox(request, { signal, timeoutMs: destroyTimeoutMs }),
          ),
        );
      } catch (error) {
        if (!(error instanceof AppError && error.code === 'not_found')) throw error;
      }
      return async (unit) => ({
        state: 'succeeded',
        result: await moveSandbox(unit, row.id, { transition: 'stop_succeeded' }),
      });
    },
    async fail({ subject }, failure) {
      const reason = `its host has not freed it yet (${failure.message}); that is done when the host can`;
      const move = { transition: 'stop_succeeded', facts: { status_reason: reason } } as const;
      return async (unit) => ({ state: 'succeeded', result: await moveSandbox(unit, subject.id, move) });
    },
  };
}
