import type { ServiceContext } from '../context.ts';
import { applyToLatest } from '../sandboxes/sandbox-store.ts';
import { type AgentDeps, callAgent } from './agent-call.ts';
import type { OperationHandler } from './operation.ts';
import { failureReason, isBeingStopped, readSandbox, runChanges } from './outcome.ts';

const resumeTimeoutMs = 9 * 60_000;

/** Resumes from the latest generation, or from the one that a rewind names. */
export function resumeHandler(deps: AgentDeps & Pick<ServiceContext, 'database'>): OperationHandler<'resume'> {
  const { db } = deps.database;
  return {
    retryBudgetMs: 20_000,
    async run(operation, signal) {
      const row = await readSandbox(db, operation);
      if (row.status === 'stopping' || row.status === 'stopped') return async () => undefined;
      const { sandbox } = await callAgent(deps, row.host_id, (client) =>
        client.resumeSandbox(
          {
            operationId: operation.id,
            sandboxId: row.id,
            timeoutSec: row.timeout_sec,
            generationId: operation.payload.generationId ?? '',
          },
          { signal, timeoutMs: resumeTimeoutMs },
        ),
      );
      if (await isBeingStopped(db, row.id)) {
        await callAgent(deps, row.host_id, (client) =>
          client.destroySandbox({ operationId: operation.id, sandboxId: row.id }, { signal }),
        );
        return async () => undefined;
      }
      return async (transaction) => {
        await applyToLatest(transaction, row.id, { transition: 'resume_succeeded', changes: runChanges(sandbox) });
      };
    },
    async fail(operation, error) {
      const row = await readSandbox(db, operation);
      return async (transaction) => {
        const changes = { status_reason: `resume failed: ${failureReason(error)}` };
        await applyToLatest(transaction, row.id, { transition: 'resume_failed', changes });
      };
    },
  };
}
