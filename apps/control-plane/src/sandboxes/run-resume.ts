import { AppError, type SandboxTransition } from '@aviary/core';
import { type AgentDeps, callAgent } from '../hosts/agent-call.ts';
import { failSandbox, heardChanges, hostRetryMs, readSandbox } from './outcome.ts';
import { runStart, type StartDeps } from './run-start.ts';
import type { SandboxOperationHandler } from './sandbox-operations.ts';
import type { HeardUpTo, SandboxRow } from './sandbox-store.ts';

const resumeTimeoutMs = 9 * 60_000;

/** Resumes from the latest generation, or from the one that a rewind names. */
export function resumeHandler(deps: StartDeps): SandboxOperationHandler<'resume'> {
  return {
    retryBudgetMs: hostRetryMs,
    run: (operation, context) =>
      runStart(
        deps,
        { operation, ...context },
        {
          transition: 'resume_succeeded',
          done: 'was back',
          timeoutMs: resumeTimeoutMs,
          ask: (client, row, options) => {
            const request = {
              operationId: operation.id,
              sandboxId: row.id,
              timeoutSec: row.timeout_sec,
              generationId: operation.payload.generationId ?? '',
              cold: operation.payload.isCold ?? false,
            };
            return client.resumeSandbox(request, options);
          },
        },
      ),
    async fail(operation, failure) {
      const row = await readSandbox(deps.database.db, operation);
      const left = { ...(await judge(deps, row)), reason: `resume failed: ${failure.message}`, failure };
      return (unit) => failSandbox(unit, row.id, left);
    },
  };
}

/** What a failed resume or rewind left: a rewind that was refused lets the sandbox run on, one without saved state is `error`. */
async function judge(deps: AgentDeps, row: SandboxRow): Promise<{ transition: SandboxTransition; heard: HeardUpTo }> {
  try {
    const { sandbox } = await callAgent(deps, row.host_id, (client) => client.pingSandbox({ sandboxId: row.id }));
    return { transition: 'resume_succeeded', heard: heardChanges(sandbox) };
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    const isLost = error.code === 'not_found' || (error.code === 'invalid_state' && error.details['state'] === 'error');
    return { transition: isLost ? 'resume_lost' : 'resume_failed', heard: {} };
  }
}
