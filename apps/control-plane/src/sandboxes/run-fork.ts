import type { ServiceContext } from '../context.ts';
import { type AgentDeps, callAgent } from '../hosts/agent-call.ts';
import type { OperationHandler } from '../operations/operation.ts';
import { recordGeneration } from './generation-store.ts';
import { endIfStopped, failureReason, hostRetryMs, readSandbox, runChanges } from './outcome.ts';
import { applyToLatest, type SandboxChanges } from './sandbox-store.ts';
import type { SettledWatch } from './settled-watch.ts';

const forkTimeoutMs = 9 * 60_000;

/** Starts the copies; one that fails does not touch the others. */
export function forkHandler(
  deps: AgentDeps & Pick<ServiceContext, 'database'> & { watch: SettledWatch },
): OperationHandler<'fork'> {
  const { db } = deps.database;
  return {
    retryBudgetMs: hostRetryMs,
    async run(operation, signal) {
      const source = await readSandbox(db, operation);
      const { targets, timeoutSec } = operation.payload;
      const { results, generation } = await callAgent(deps, source.host_id, (client) =>
        client.forkSandbox(
          {
            operationId: operation.id,
            sandboxId: source.id,
            targets: targets.map((sandboxId) => ({ sandboxId })),
            timeoutSec,
          },
          { signal, timeoutMs: forkTimeoutMs },
        ),
      );
      for (const sandboxId of targets)
        await endIfStopped(deps, operation, { sandboxId, hostId: source.host_id, signal });
      return async (transaction) => {
        if (generation) await recordGeneration(transaction, source.id, generation);
        for (const target of targets) {
          const result = results.find((entry) => entry.sandboxId === target);
          const isStarted = result?.sandbox !== undefined && result.error === '';
          const changes: SandboxChanges = isStarted
            ? runChanges(result.sandbox)
            : { status_reason: result?.error || 'the host did not start this copy' };
          const transition = isStarted ? 'start_succeeded' : 'start_failed';
          await applyToLatest(transaction, target, { transition, changes });
        }
        for (const target of targets) setImmediate(() => deps.watch.notify(target));
      };
    },
    async fail(operation, error) {
      return async (transaction) => {
        const changes = { status_reason: `fork failed: ${failureReason(error)}` };
        for (const target of operation.payload.targets) {
          await applyToLatest(transaction, target, { transition: 'start_failed', changes });
        }
      };
    },
  };
}
