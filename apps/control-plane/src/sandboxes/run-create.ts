import { failSandbox, hostRetryMs } from './outcome.ts';
import { runStart, type StartDeps } from './run-start.ts';
import type { SandboxOperationHandler } from './sandbox-operations.ts';

/** A first boot on a software CPU takes a minute; a template may be fetched before. */
const bootTimeoutMs = 9 * 60_000;

/** Starts a new sandbox from its template. */
export function createHandler(deps: StartDeps): SandboxOperationHandler<'create'> {
  return {
    retryBudgetMs: hostRetryMs,
    run: (operation, context) =>
      runStart(
        deps,
        { operation, ...context },
        {
          transition: 'start_succeeded',
          done: 'had started',
          timeoutMs: bootTimeoutMs,
          ask: (client, row, options) => {
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
            return client.createSandbox(request, options);
          },
        },
      ),
    async fail({ subject }, failure) {
      const left = { transition: 'start_failed', reason: failure.message, failure } as const;
      return (unit) => failSandbox(unit, subject.id, left);
    },
  };
}
