import type { ServiceContext } from '../context.ts';
import { type AgentDeps, callAgent } from '../hosts/agent-call.ts';
import type { OperationHandler } from '../operations/operation.ts';
import { endIfStopped, failureReason, hostRetryMs, readSandbox, runChanges } from './outcome.ts';
import { applyToLatest } from './sandbox-store.ts';

/** A first boot on a software CPU takes a minute; a template may be fetched before. */
const bootTimeoutMs = 9 * 60_000;

export function createHandler(deps: AgentDeps & Pick<ServiceContext, 'database'>): OperationHandler<'create'> {
  const { db } = deps.database;
  return {
    retryBudgetMs: hostRetryMs,
    async run(operation, signal) {
      const row = await readSandbox(db, operation);
      // The stop that came first finds nothing to destroy; what would be made now nobody would.
      if (row.status === 'stopping' || row.status === 'stopped') return async () => undefined;
      const { sandbox } = await callAgent(deps, row.host_id, (client) =>
        client.createSandbox(
          {
            operationId: operation.id,
            sandboxId: row.id,
            teamId: row.team_id,
            template: { teamId: row.template_team_id, templateId: row.template_id },
            vcpus: row.vcpus,
            memoryMib: row.memory_mib,
            diskMib: row.disk_mib,
            timeoutSec: row.timeout_sec,
            envs: operation.payload.envs,
          },
          { signal, timeoutMs: bootTimeoutMs },
        ),
      );
      const started = { sandboxId: row.id, hostId: row.host_id, signal };
      if (await endIfStopped(deps, operation, started)) return async () => undefined;
      return async (transaction) => {
        await applyToLatest(transaction, row.id, { transition: 'start_succeeded', changes: runChanges(sandbox) });
      };
    },
    async fail(operation, error) {
      const row = await readSandbox(db, operation);
      return async (transaction) => {
        const changes = { status_reason: failureReason(error) };
        await applyToLatest(transaction, row.id, { transition: 'start_failed', changes });
      };
    },
  };
}
