import type { ServiceContext } from '../context.ts';
import { type AgentDeps, callAgent } from '../hosts/agent-call.ts';
import {
  endIfStopped,
  failSandbox,
  hostRetryMs,
  moveSandbox,
  overtakenByDelete,
  readSandbox,
  runFacts,
} from './outcome.ts';
import type { SandboxOperationHandler } from './sandbox-operations.ts';

/** A first boot on a software CPU takes a minute; a template may be fetched before. */
const bootTimeoutMs = 9 * 60_000;

export function createHandler(deps: AgentDeps & Pick<ServiceContext, 'database'>): SandboxOperationHandler<'create'> {
  const { db } = deps.database;
  return {
    retryBudgetMs: hostRetryMs,
    async run(operation, { signal, phases }) {
      const row = await readSandbox(db, operation);
      // The stop that came first finds nothing to destroy; what would be made now nobody would.
      if (row.status === 'stopping' || row.status === 'stopped') return overtakenByDelete(row.id, 'had started');
      const request = {
        operationId: operation.id,
        sandboxId: row.id,
        teamId: row.team_id,
        template: { teamId: row.template_team_id, templateId: row.template_id },
        vcpus: row.vcpus,
        memoryMib: row.memory_mib,
        diskMib: row.disk_mib,
        timeoutSec: row.timeout_sec,
        envs: operation.payload.envs,
      };
      const reply = await phases.time('agent', () =>
        callAgent(deps, row.host_id, (client) => client.createSandbox(request, { signal, timeoutMs: bootTimeoutMs })),
      );
      phases.addOfHost(reply.phases);
      const started = { sandboxId: row.id, hostId: row.host_id, signal };
      if (await endIfStopped(deps, operation, started)) return overtakenByDelete(row.id, 'had started');
      return async (unit) => {
        const move = { transition: 'start_succeeded', facts: runFacts(reply.sandbox) } as const;
        return { state: 'succeeded', result: await moveSandbox(unit, row.id, move) };
      };
    },
    async fail({ subject }, failure) {
      const left = { transition: 'start_failed', reason: failure.message, failure } as const;
      return (unit) => failSandbox(unit, subject.id, left);
    },
  };
}
