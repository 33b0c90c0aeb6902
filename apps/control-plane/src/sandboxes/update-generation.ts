import type { UpdateGeneration } from '@aviary/api-contract';
import { AppError, type GenerationId } from '@aviary/core';
import { isUniqueViolation } from '@aviary/database';
import { recordAudit } from '../audit/audit-store.ts';
import { callAgent } from '../hosts/agent-call.ts';
import type { CommandContext } from '../operations/accept-command.ts';
import { type GenerationDeps, noSuchGeneration } from './choose-generation.ts';
import { findGeneration, type GenerationRow, updateGenerationRow } from './generation-store.ts';
import type { SandboxRow } from './sandbox-store.ts';

/** Names or pins a saved state, on its host and here. Throws `not_found`, or `already_exists` for a name that is taken. */
export async function updateGeneration(
  deps: GenerationDeps,
  { teamId, actor }: CommandContext,
  { sandbox, id, changes }: { sandbox: SandboxRow; id: GenerationId; changes: UpdateGeneration },
): Promise<GenerationRow> {
  const { db } = deps.database;
  const known = await findGeneration(db, sandbox.id, { id });
  if (!known) throw noSuchGeneration();
  const { name, pinned } = changes;
  const taken = typeof name === 'string' && (await findGeneration(db, sandbox.id, { name }));
  if (taken && taken.id !== known.id) throw nameTaken(name);
  // The host first: it prunes, and must not drop what was answered as pinned.
  const request = {
    sandboxId: sandbox.id,
    generationId: known.id,
    ...(name === undefined ? {} : { name: name ?? '' }),
    ...(pinned === undefined ? {} : { pinned }),
  };
  await callAgent(deps, sandbox.host_id, (client) => client.updateGeneration(request));
  try {
    return await deps.database.transaction(async (unit) => {
      const metadata = { ...changes };
      const about = { resourceId: known.id, action: 'generation.update' } as const;
      await recordAudit(unit.db, { teamId, actor, ...about, metadata });
      return updateGenerationRow(unit.db, known.id, changes);
    });
  } catch (error) {
    throw isUniqueViolation(error) ? nameTaken(name) : error;
  }
}

const nameTaken = (name: string | null | undefined) =>
  new AppError('already_exists', `another generation of this sandbox is called ${name}`, {
    details: { field: 'name' },
  });
