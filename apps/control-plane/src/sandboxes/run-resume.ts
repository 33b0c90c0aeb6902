import { AppError, type SandboxTransition } from '@aviary/core';
import type { ServiceContext } from '../context.ts';
import { type AgentDeps, callAgent } from '../hosts/agent-call.ts';
import type { OperationHandler } from '../operations/operation.ts';
import { endIfStopped, failureReason, hostRetryMs, readSandbox, runChanges } from './outcome.ts';
import { applyToLatest, type SandboxRow } from './sandbox-store.ts';

const resumeTimeoutMs = 9 * 60_000;

/** Resumes from the latest generation, or from the one that a rewind names. */
export function resumeHandler(deps: AgentDeps & Pick<ServiceContext, 'database'>): OperationHandler<'resume'> {
  const { db } = deps.database;
  return {
    retryBudgetMs: hostRetryMs,
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
            cold: operation.payload.isCold ?? false,
          },
          { signal, timeoutMs: resumeTimeoutMs },
        ),
      );
      const started = { sandboxId: row.id, hostId: row.host_id, signal };
      if (await endIfStopped(deps, operation, started)) return async () => undefined;
      return async (transaction) => {
        await applyToLatest(transaction, row.id, { transition: 'resume_succeeded', changes: runChanges(sandbox) });
      };
    },
    async fail(operation, error) {
      const row = await readSandbox(db, operation);
      const transition = await judge(deps, row);
      return async (transaction) => {
        const changes = { status_reason: `resume failed: ${failureReason(error)}` };
        await applyToLatest(transaction, row.id, { transition, changes });
      };
    },
  };
}

/** What a failed resume or rewind left: a rewind that was refused lets the sandbox run on, one without saved state is `error`. */
async function judge(deps: AgentDeps, row: SandboxRow): Promise<SandboxTransition> {
  try {
    await callAgent(deps, row.host_id, (client) => client.pingSandbox({ sandboxId: row.id }));
    return 'resume_succeeded';
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    const isLost = error.code === 'not_found' || (error.code === 'invalid_state' && error.details['state'] === 'error');
    return isLost ? 'resume_lost' : 'resume_failed';
  }
}
