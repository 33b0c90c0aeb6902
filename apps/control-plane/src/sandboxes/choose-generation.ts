import { AppError, asId, parseId } from '@aviary/core';
import type { ServiceContext } from '../context.ts';
import { type AgentDeps, callAgent } from '../hosts/agent-call.ts';
import { findGeneration, forgetGenerations, type GenerationRow, recordGeneration } from './generation-store.ts';
import type { SandboxRow } from './sandbox-store.ts';

export type GenerationDeps = AgentDeps & Pick<ServiceContext, 'database' | 'logger'>;

const listTimeoutMs = 10_000;

/** The generation of that id or name. Throws `not_found`. */
export async function chooseGeneration(
  deps: GenerationDeps,
  row: SandboxRow,
  idOrName: string,
): Promise<GenerationRow> {
  const by = idOrName.startsWith('gen-') ? { id: parseId('generation', idOrName, 'generation') } : { name: idOrName };
  await refreshGenerations(deps, row);
  const generation = await findGeneration(deps.database.db, row.id, by);
  if (!generation) throw noSuchGeneration();
  return generation;
}

/** Takes over the host's list. When the host cannot be asked, what was last known stands. */
export async function refreshGenerations(deps: GenerationDeps, row: SandboxRow): Promise<void> {
  if (row.status === 'stopped' || row.status === 'stopping') return;
  try {
    const { generations } = await callAgent(deps, row.host_id, (client) =>
      client.listGenerations({ sandboxId: row.id }, { timeoutMs: listTimeoutMs }),
    );
    const kept = generations.map((info) => asId('generation', info.generationId));
    await deps.database.transaction(async ({ db }) => {
      for (const info of generations) await recordGeneration(db, row.id, info);
      await forgetGenerations(db, row.id, kept);
    });
  } catch (error) {
    deps.logger.info({ sandboxId: row.id, err: error }, 'generations not refreshed');
  }
}

export const noSuchGeneration = () =>
  new AppError('not_found', 'the sandbox has no such generation; GET its generations to see which are kept', {
    details: { field: 'generation' },
  });
