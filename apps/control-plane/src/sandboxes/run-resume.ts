import { AppError, type SandboxTransition } from '@aviary/core';
import type { ServiceContext } from '../context.ts';
import { type AgentDeps, callAgent } from '../hosts/agent-call.ts';
import {
  endIfStopped,
  failSandbox,
  heardChanges,
  hostRetryMs,
  moveSandbox,
  overtakenByDelete,
  readSandbox,
  runFacts,
} from './outcome.ts';
import type { SandboxOperationHandler } from './sandbox-operations.ts';
import type { HeardUpTo, SandboxRow } from './sandbox-store.ts';

const resumeTimeoutMs = 9 * 60_000;

/** Resumes from the latest generation, or from the one that a rewind names. */
export function resumeHandler(deps: AgentDeps & Pick<ServiceContext, 'database'>): SandboxOperationHandler<'resume'> {
  const { db } = deps.database;
  return {
    retryBudgetMs: hostRetryMs,
    async run(operation, { signal, phases }) {
      const row = await readSandbox(db, operation);
      if (row.status === 'stopping' || row.status === 'stopped') return overtakenByDelete(row.id, 'was back');
      const request = {
        operationId: operation.id,
        sandboxId: row.id,
        timeoutSec: row.timeout_sec,
        generationId: operation.payload.generationId ?? '',
        cold: operation.payload.isCold ?? false,
      };
      const reply = await phases.time('agent', () =>
        callAgent(deps, row.host_id, (client) => client.resumeSandbox(request, { signal, timeoutMs: resumeTimeoutMs })),
      );
      phases.addOfHost(reply.phases);
      const started = { sandboxId: row.id, hostId: row.host_id, signal };
      if (await endIfStopped(deps, operation, started)) return overtakenByDelete(row.id, 'was back');
      return async (unit) => {
        const move = { transition: 'resume_succeeded', facts: runFacts(reply.sandbox) } as const;
        return { state: 'succeeded', result: await moveSandbox(unit, row.id, move) };
      };
    },
    async fail(operation, failure) {
      const row = await readSandbox(db, operation);
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
