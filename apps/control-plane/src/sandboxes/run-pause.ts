import { AppError, asId, type SandboxTransition } from '@aviary/core';
import type { ServiceContext } from '../context.ts';
import { type AgentDeps, callAgent } from '../hosts/agent-call.ts';
import type { OperationHandler } from '../operations/operation.ts';
import { recordGeneration } from './generation-store.ts';
import { failureReason, hostRetryMs, readSandbox } from './outcome.ts';
import { applyToLatest, type SandboxRow } from './sandbox-store.ts';

/** Saving the memory of a large sandbox to a slow disk takes minutes. */
const pauseTimeoutMs = 9 * 60_000;

export function pauseHandler(deps: AgentDeps & Pick<ServiceContext, 'database'>): OperationHandler<'pause'> {
  const { db } = deps.database;
  return {
    retryBudgetMs: hostRetryMs,
    async run(operation, signal) {
      const row = await readSandbox(db, operation);
      const { isForced = false } = operation.payload;
      const request = { operationId: operation.id, sandboxId: row.id, force: isForced };
      const { generation, sandbox } = await callAgent(deps, row.host_id, (client) =>
        client.pauseSandbox(request, { signal, timeoutMs: pauseTimeoutMs }),
      );
      return async (transaction) => {
        const changes = {
          status_reason: sandbox?.reason || null,
          ...(generation ? { generation_id: asId('generation', generation.generationId) } : {}),
        };
        if (generation) await recordGeneration(transaction, row.id, generation);
        await applyToLatest(transaction, row.id, { transition: 'pause_succeeded', changes });
      };
    },
    async fail(operation, error) {
      const row = await readSandbox(db, operation);
      const transition = await judge(deps, row);
      return async (transaction) => {
        await applyToLatest(transaction, row.id, {
          transition,
          changes: { status_reason: `pause failed: ${failureReason(error)}` },
        });
      };
    },
  };
}

/** A failed pause leaves the microVM running, unless it is gone: the host knows. */
async function judge(deps: AgentDeps, row: SandboxRow): Promise<SandboxTransition> {
  try {
    await callAgent(deps, row.host_id, (client) => client.pingSandbox({ sandboxId: row.id }));
    return 'pause_failed';
  } catch (error) {
    const isGone = error instanceof AppError && (error.code === 'not_found' || error.code === 'invalid_state');
    return isGone ? 'vm_lost' : 'host_lost';
  }
}
