import type { SandboxInfo } from '@aviary/proto/hostagent';
import type { ServiceContext } from '../context.ts';
import { type AgentDeps, callAgent } from '../hosts/agent-call.ts';
import type { HostClient } from '../hosts/host-clients.ts';
import type { RunContext, Settle } from '../operations/operation.ts';
import type { Phase } from '../operations/phase-log.ts';
import { endIfStopped, moveSandbox, overtakenByDelete, readSandbox, runFacts } from './outcome.ts';
import type { SandboxOperation } from './sandbox-operations.ts';
import type { SandboxRow } from './sandbox-store.ts';

export type StartDeps = AgentDeps & Pick<ServiceContext, 'database'>;

/** One way to start a sandbox's microVM. */
export interface Start {
  transition: 'start_succeeded' | 'resume_succeeded';
  /** What a delete came before, as in "the sandbox was deleted before it …". */
  done: string;
  timeoutMs: number;
  /** Asks the host for it. */
  ask(
    client: HostClient,
    row: SandboxRow,
    options: { signal: AbortSignal; timeoutMs: number },
  ): Promise<{ sandbox?: SandboxInfo | undefined; phases: readonly Phase[] }>;
}

/** Starts the microVM of an operation's sandbox. A delete wins, whether it came before or meanwhile. */
export async function runStart(
  deps: StartDeps,
  { operation, signal, phases }: RunContext & { operation: SandboxOperation },
  { transition, done, timeoutMs, ask }: Start,
): Promise<Settle> {
  const row = await readSandbox(deps.database.db, operation);
  // The stop that came first finds nothing to destroy; what would be made now nobody would.
  if (row.status === 'stopping' || row.status === 'stopped') return overtakenByDelete(row.id, done);
  const reply = await phases.time('agent', () =>
    callAgent(deps, row.host_id, (client) => ask(client, row, { signal, timeoutMs })),
  );
  phases.addOfHost(reply.phases);
  const started = { sandboxId: row.id, hostId: row.host_id, signal };
  if (await endIfStopped(deps, operation, started)) return overtakenByDelete(row.id, done);
  return async (unit) => {
    const move = { transition, facts: runFacts(reply.sandbox) };
    return { state: 'succeeded', result: await moveSandbox(unit, row.id, move) };
  };
}
