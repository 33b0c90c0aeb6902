import { AppError, asId, type SandboxTransition } from '@aviary/core';
import type { ServiceContext } from '../context.ts';
import { type AgentDeps, callAgent } from '../hosts/agent-call.ts';
import { recordGeneration } from './generation-store.ts';
import { failSandbox, heardChanges, hostRetryMs, moveSandbox, readSandbox } from './outcome.ts';
import type { SandboxOperationHandler } from './sandbox-operations.ts';
import type { HeardUpTo, SandboxRow } from './sandbox-store.ts';

/** Saving the memory of a large sandbox to a slow disk takes minutes. */
const pauseTimeoutMs = 9 * 60_000;

export function pauseHandler(deps: AgentDeps & Pick<ServiceContext, 'database'>): SandboxOperationHandler<'pause'> {
  const { db } = deps.database;
  return {
    retryBudgetMs: hostRetryMs,
    async run(operation, { signal, phases }) {
      const row = await readSandbox(db, operation);
      const { isForced = false } = operation.payload;
      const request = { operationId: operation.id, sandboxId: row.id, force: isForced };
      const reply = await phases.time('agent', () =>
        callAgent(deps, row.host_id, (client) => client.pauseSandbox(request, { signal, timeoutMs: pauseTimeoutMs })),
      );
      phases.addOfHost(reply.phases);
      const { generation, sandbox } = reply;
      return async (unit) => {
        if (generation) await recordGeneration(unit.db, row.id, generation);
        const facts = {
          status_reason: sandbox?.reason || null,
          ...heardChanges(sandbox),
          ...(generation ? { generation_id: asId('generation', generation.generationId) } : {}),
        };
        return {
          state: 'succeeded',
          result: await moveSandbox(unit, row.id, { transition: 'pause_succeeded', facts }),
        };
      };
    },
    async fail(operation, failure) {
      const row = await readSandbox(db, operation);
      const left = { ...(await judge(deps, row)), reason: `pause failed: ${failure.message}`, failure };
      return (unit) => failSandbox(unit, row.id, left);
    },
  };
}

/** A failed pause leaves the microVM running, unless it is gone: the host knows. */
async function judge(deps: AgentDeps, row: SandboxRow): Promise<{ transition: SandboxTransition; heard: HeardUpTo }> {
  try {
    const { sandbox } = await callAgent(deps, row.host_id, (client) => client.pingSandbox({ sandboxId: row.id }));
    return { transition: 'pause_failed', heard: heardChanges(sandbox) };
  } catch (error) {
    const isGone = error instanceof AppError && (error.code === 'not_found' || error.code === 'invalid_state');
    return { transition: isGone ? 'vm_lost' : 'host_lost', heard: {} };
  }
}
