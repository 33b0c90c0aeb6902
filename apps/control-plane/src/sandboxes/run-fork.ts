import type { Sandbox } from '@aviary/api-contract';
import { AppError, formatId, isErrorCode, type SandboxId } from '@aviary/core';
import type { UnitOfWork } from '@aviary/database';
import type { ForkResult } from '@aviary/proto/hostagent';
import type { ServiceContext } from '../context.ts';
import { type AgentDeps, callAgent } from '../hosts/agent-call.ts';
import type { Settlement } from '../operations/operation.ts';
import { recordGeneration } from './generation-store.ts';
import { endIfStopped, hostRetryMs, moveSandbox, readSandbox, runFacts } from './outcome.ts';
import type { SandboxOperationHandler } from './sandbox-operations.ts';

const forkTimeoutMs = 9 * 60_000;

/** Starts the copies; one that fails does not touch the others. The fork has failed when not one of them runs. */
export function forkHandler(deps: AgentDeps & Pick<ServiceContext, 'database'>): SandboxOperationHandler<'fork'> {
  const { db } = deps.database;
  return {
    retryBudgetMs: hostRetryMs,
    async run(operation, { signal, phases }) {
      const source = await readSandbox(db, operation);
      const { targets, timeoutSec } = operation.payload;
      const request = {
        operationId: operation.id,
        sandboxId: source.id,
        targets: targets.map((sandboxId) => ({ sandboxId })),
        timeoutSec,
      };
      const { results, generation, ...reply } = await phases.time('agent', () =>
        callAgent(deps, source.host_id, (client) => client.forkSandbox(request, { signal, timeoutMs: forkTimeoutMs })),
      );
      phases.addOfHost([...reply.phases, ...slowest(results)]);
      for (const sandboxId of targets)
        await endIfStopped(deps, operation, { sandboxId, hostId: source.host_id, signal });
      return async (unit) => {
        if (generation) await recordGeneration(unit.db, source.id, generation);
        const items: Sandbox[] = [];
        for (const target of targets) {
          const result = results.find((entry) => entry.sandboxId === target);
          items.push(await settleCopy(unit, target, result));
        }
        return judge(targets, { items, results });
      };
    },
    async fail({ payload: { targets } }, failure) {
      return async (unit) => {
        const reason = `fork failed: ${failure.message}`;
        for (const target of targets)
          await moveSandbox(unit, target, { transition: 'start_failed', facts: { status_reason: reason } });
        const code = failure.code === 'not_found' ? 'internal' : failure.code;
        return { state: 'failed', error: forkError(targets, { code, reason, details: failure.details }) };
      };
    },
  };
}

function settleCopy(unit: UnitOfWork, id: SandboxId, result: ForkResult | undefined): Promise<Sandbox> {
  if (result?.sandbox !== undefined && result.error === '')
    return moveSandbox(unit, id, { transition: 'start_succeeded', facts: runFacts(result.sandbox) });
  const reason = result?.error || 'the host did not start this copy';
  return moveSandbox(unit, id, { transition: 'start_failed', facts: { status_reason: reason } });
}

function judge(
  targets: readonly SandboxId[],
  { items, results }: { items: Sandbox[]; results: ForkResult[] },
): Settlement {
  if (items.some(({ status }) => status === 'running')) return { state: 'succeeded', result: { items } };
  const { error = '', errorCode = '' } = results.find((result) => result.error !== '') ?? {};
  const code = isErrorCode(errorCode) ? errorCode : 'internal';
  const reason = `fork failed: ${error || 'the host started none of the copies'}`;
  return { state: 'failed', error: forkError(targets, { code, reason, details: {} }) };
}

function forkError(
  targets: readonly SandboxId[],
  { code, reason, details }: { code: AppError['code']; reason: string; details: Record<string, unknown> },
): AppError {
  const sandboxIds = targets.map((id) => formatId('sandbox', id));
  return new AppError(code, reason, { details: { ...details, sandbox_ids: sandboxIds } });
}

/** Copies start side by side: of each step the longest. */
function slowest(results: readonly ForkResult[]): { name: string; ms: number }[] {
  const longest = new Map<string, number>();
  for (const { phases } of results)
    for (const { name, ms } of phases) longest.set(name, Math.max(ms, longest.get(name) ?? 0));
  return [...longest].map(([name, ms]) => ({ name: `copy.${name}`, ms }));
}
