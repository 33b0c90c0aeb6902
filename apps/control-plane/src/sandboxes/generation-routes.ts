import { type Generation, generationRoutes } from '@aviary/api-contract';
import { AppError, asId, formatId, type GenerationId, isGenerationCause, parseId } from '@aviary/core';
import { isUniqueViolation } from '@aviary/database';
import type { FastifyInstance } from 'fastify';
import type { Db } from '../context.ts';
import { recordAudit } from '../events.ts';
import { type ApiDeps, registerRoutes } from '../http/register-routes.ts';
import {
  findGeneration,
  forgetGenerations,
  type GenerationRow,
  generationColumns,
  listGenerations,
  recordGeneration,
} from './generation-store.ts';
import { resumeSandbox, rewindSandbox } from './resume-sandbox.ts';
import type { DataDeps } from './running-sandbox.ts';
import { answerCommand, commandContext, type SandboxRouteDeps } from './sandbox-routes.ts';
import { getSandbox, type SandboxRow } from './sandbox-store.ts';

type Deps = SandboxRouteDeps & DataDeps & ApiDeps;

/** The tree of saved states: list, name, pin, go on from one, go back to one. */
export function registerGenerationRoutes(app: FastifyInstance, deps: Deps): void {
  const { db } = deps.database;
  registerRoutes(app, deps, {
    table: generationRoutes,
    handlers: {
      listGenerations: async ({ caller, params }) => {
        const row = await getSandbox(db, caller.teamId, parseId('sandbox', params.id, 'id'));
        await refreshGenerations(deps, row);
        const generations = await listGenerations(db, row.id);
        return { items: generations.map((generation) => viewGeneration(generation, row)) };
      },
      updateGeneration: async ({ caller, params, body }) => {
        const row = await getSandbox(db, caller.teamId, parseId('sandbox', params.id, 'id'));
        const known = await findGeneration(db, row.id, { id: parseId('generation', params.generation, 'generation') });
        if (!known) throw noGeneration();
        const changes = {
          ...(body.name === undefined ? {} : { name: body.name }),
          ...(body.pinned === undefined ? {} : { pinned: body.pinned }),
        };
        const taken = typeof body.name === 'string' && (await findGeneration(db, row.id, { name: body.name }));
        if (taken && taken.id !== known.id) throw nameTaken(body.name);
        // The host first: it prunes, and must not drop what was answered as pinned.
        const client = await deps.hostClients.get(row.host_id);
        const { name, pinned } = changes;
        await client.updateGeneration({
          sandboxId: row.id,
          generationId: known.id,
          ...(name === undefined ? {} : { name: name ?? '' }),
          ...(pinned === undefined ? {} : { pinned }),
        });
        const updated = await db.transaction().execute(async (transaction) => {
          await recordAudit(transaction, {
            teamId: caller.teamId,
            actor: caller.actor,
            resourceType: 'generation',
            resourceId: known.id,
            action: 'generation.update',
            metadata: changes,
          });
          return writeGeneration(transaction, known.id, changes);
        });
        return viewGeneration(updated, row);
      },
      resumeSandbox: async ({ caller, params, body, request, reply }) => {
        const sandboxId = parseId('sandbox', params.id, 'id');
        const { generation, cold = false } = body;
        const chosen =
          generation === undefined
            ? undefined
            : await chooseGeneration(deps, await getSandbox(db, caller.teamId, sandboxId), generation);
        const target = { sandboxId, generationId: chosen?.id ?? null, isCold: cold };
        const accepted = await resumeSandbox(deps, commandContext(caller, request), target);
        return answerCommand(deps, { caller, request, reply, accepted, wants: 'running', settledStatus: 200 });
      },
      rewindSandbox: async ({ caller, params, body, request, reply }) => {
        const row = await getSandbox(db, caller.teamId, parseId('sandbox', params.id, 'id'));
        const { id: generationId } = await chooseGeneration(deps, row, body.generation);
        const accepted = await rewindSandbox(deps, commandContext(caller, request), {
          sandboxId: row.id,
          generationId,
        });
        return answerCommand(deps, { caller, request, reply, accepted, wants: 'running', settledStatus: 200 });
      },
    },
  });
}

/** The generation of that id or name. Throws `not_found`. */
async function chooseGeneration(deps: Deps, row: SandboxRow, idOrName: string): Promise<GenerationRow> {
  const by = idOrName.startsWith('gen-') ? { id: parseId('generation', idOrName, 'generation') } : { name: idOrName };
  await refreshGenerations(deps, row);
  const generation = await findGeneration(deps.database.db, row.id, by);
  if (!generation) throw noGeneration();
  return generation;
}

/** Takes over the host's list. When the host cannot be asked, what was last known stands. */
async function refreshGenerations({ database, hostClients, logger }: Deps, row: SandboxRow): Promise<void> {
  if (row.status === 'stopped' || row.status === 'stopping') return;
  try {
    const client = await hostClients.get(row.host_id);
    const { generations } = await client.listGenerations({ sandboxId: row.id }, { timeoutMs: 10_000 });
    await database.db.transaction().execute(async (transaction) => {
      for (const info of generations) await recordGeneration(transaction, row.id, info);
      await forgetGenerations(
        transaction,
        row.id,
        generations.map((info) => asId('generation', info.generationId)),
      );
    });
  } catch (error) {
    logger.info({ sandbox: row.id, err: error }, 'generations not refreshed');
  }
}

async function writeGeneration(
  db: Db,
  id: GenerationId,
  changes: { name?: string | null; pinned?: boolean },
): Promise<GenerationRow> {
  try {
    const query = db.updateTable('generations').set(changes).where('id', '=', id);
    return await query.returning(generationColumns).executeTakeFirstOrThrow();
  } catch (error) {
    throw isUniqueViolation(error) ? nameTaken(changes.name) : error;
  }
}

const nameTaken = (name: string | null | undefined) =>
  new AppError('already_exists', `another generation of this sandbox is called ${name}`, {
    details: { field: 'name' },
  });

const noGeneration = () =>
  new AppError('not_found', 'the sandbox has no such generation; GET its generations to see which are kept', {
    details: { field: 'generation' },
  });

function viewGeneration(row: GenerationRow, sandbox: SandboxRow): Generation {
  return {
    id: formatId('generation', row.id),
    parent_id: row.parent_id && formatId('generation', row.parent_id),
    name: row.name,
    pinned: row.pinned,
    cause: isGenerationCause(row.cause) ? row.cause : 'other',
    current: row.id === sandbox.generation_id,
    has_memory: row.has_memory,
    memory_bytes: row.memory_bytes,
    disk_bytes: row.disk_bytes,
    created_at: row.created_at.toISOString(),
  };
}
