import { type Generation, generationRoutes } from '@aviary/api-contract';
import { formatId, isGenerationCause, parseId } from '@aviary/core';
import type { FastifyInstance } from 'fastify';
import { registerRoutes } from '../http/register-routes.ts';
import { commandContext } from '../operations/answer-command.ts';
import { chooseGeneration, refreshGenerations } from './choose-generation.ts';
import { type GenerationRow, listGenerations } from './generation-store.ts';
import { resumeSandbox, rewindSandbox } from './resume-sandbox.ts';
import type { DataDeps } from './running-sandbox.ts';
import { answerSandboxCommand, type SandboxRouteDeps } from './sandbox-routes.ts';
import { getSandbox, type SandboxRow } from './sandbox-store.ts';
import { updateGeneration } from './update-generation.ts';

/** The tree of saved states: list, name, pin, go on from one, go back to one. */
export function registerGenerationRoutes(app: FastifyInstance, deps: SandboxRouteDeps & DataDeps): void {
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
        const sandbox = await getSandbox(db, caller.teamId, parseId('sandbox', params.id, 'id'));
        const id = parseId('generation', params.generation, 'generation');
        const { teamId, actor } = caller;
        const updated = await updateGeneration(deps, { teamId, actor }, { sandbox, id, changes: body });
        return viewGeneration(updated, sandbox);
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
        return answerSandboxCommand(deps, { caller, request, reply, accepted, settledStatus: 200 });
      },
      rewindSandbox: async ({ caller, params, body, request, reply }) => {
        const row = await getSandbox(db, caller.teamId, parseId('sandbox', params.id, 'id'));
        const { id: generationId } = await chooseGeneration(deps, row, body.generation);
        const accepted = await rewindSandbox(deps, commandContext(caller, request), {
          sandboxId: row.id,
          generationId,
        });
        return answerSandboxCommand(deps, { caller, request, reply, accepted, settledStatus: 200 });
      },
    },
  });
}

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
