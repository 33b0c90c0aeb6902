import { type Sandbox, sandboxRoutes } from '@aviary/api-contract';
import { parseId, type SandboxStatus } from '@aviary/core';
import { batched } from '@aviary/service-kit';
import type { FastifyInstance } from 'fastify';
import type { ServiceContext } from '../context.ts';
import type { PlacementOptions } from '../hosts/placement.ts';
import { pageById } from '../http/cursor.ts';
import { type ApiDeps, registerRoutes } from '../http/register-routes.ts';
import type { CommandDeps } from '../operations/accept-command.ts';
import { answerCommand, commandContext } from '../operations/answer-command.ts';
import { listSandboxOperations } from '../operations/operation-store.ts';
import { viewOperation } from '../operations/operation-view.ts';
import type { OperationWaits } from '../operations/operation-waits.ts';
import { createSandbox } from './create-sandbox.ts';
import { deleteSandbox } from './delete-sandbox.ts';
import { forkSandbox } from './fork-sandbox.ts';
import { pauseSandbox } from './pause-sandbox.ts';
import { findSandboxesByKeys, getSandbox, type KeyedQuestion, listSandboxes } from './sandbox-store.ts';
import { viewSandbox } from './sandbox-view.ts';

export type SandboxRouteDeps = CommandDeps &
  ApiDeps &
  Pick<ServiceContext, 'database' | 'clock' | 'logger'> & { placement: PlacementOptions; waits: OperationWaits };

/** Create, list, get, delete, pause, fork, and what was done. */
export function registerSandboxRoutes(app: FastifyInstance, deps: SandboxRouteDeps): void {
  const findByKey = batched((questions: readonly KeyedQuestion[]) =>
    findSandboxesByKeys(deps.database.db, questions, new Date(deps.clock.now())),
  );
  registerRoutes(app, deps, {
    table: sandboxRoutes,
    keyedReads: {
      getSandbox: async ({ key, params }) => {
        const { teamId } = key.caller;
        const row = await findByKey({ sandboxId: parseId('sandbox', params.id, 'id'), teamId, keyId: key.id });
        return row && viewSandbox(row);
      },
    },
    handlers: {
      createSandbox: async ({ caller, body, request, reply }) => {
        const accepted = await createSandbox(deps, commandContext(caller, request), body);
        return answerSandboxCommand(deps, { caller, request, reply, accepted, settledStatus: 201 });
      },
      listSandboxes: ({ caller: { teamId }, query }) => {
        const statuses = query.status?.split(',') as SandboxStatus[] | undefined;
        return pageById(query, {
          kind: 'sandbox',
          list: (range) => listSandboxes(deps.database.db, { teamId, ...range, ...(statuses ? { statuses } : {}) }),
          idOf: ({ id }) => id,
          view: viewSandbox,
        });
      },
      getSandbox: async ({ caller, params }) =>
        viewSandbox(await getSandbox(deps.database.db, caller.teamId, parseId('sandbox', params.id, 'id'))),
      deleteSandbox: async ({ caller, params, request, reply }) => {
        const accepted = await deleteSandbox(
          deps,
          commandContext(caller, request),
          parseId('sandbox', params.id, 'id'),
        );
        return answerSandboxCommand(deps, { caller, request, reply, accepted, settledStatus: 200 });
      },
      pauseSandbox: async ({ caller, params, body, request, reply }) => {
        const asked = { sandboxId: parseId('sandbox', params.id, 'id'), isForced: body.force ?? false };
        const accepted = await pauseSandbox(deps, commandContext(caller, request), asked);
        return answerSandboxCommand(deps, { caller, request, reply, accepted, settledStatus: 200 });
      },
      forkSandbox: async ({ caller, params, body, request, reply }) => {
        const sandboxId = parseId('sandbox', params.id, 'id');
        const accepted = await forkSandbox(deps, commandContext(caller, request), { sandboxId, request: body });
        return answerCommand(deps, { caller, request, reply, accepted, settledStatus: 201 });
      },
      listSandboxOperations: async ({ caller, params, query }) => {
        const { db } = deps.database;
        const { id: sandboxId } = await getSandbox(db, caller.teamId, parseId('sandbox', params.id, 'id'));
        return await pageById(query, {
          kind: 'operation',
          list: (range) => listSandboxOperations(db, { sandboxId, ...range }),
          idOf: ({ id }) => id,
          view: viewOperation,
        });
      },
    },
  });
}

/** Like {@link answerCommand}, and says where the sandbox is. */
export function answerSandboxCommand<S extends number>(
  deps: SandboxRouteDeps,
  answer: Parameters<typeof answerCommand<Sandbox, S>>[1],
): Promise<{ status: 202 | S; body: Sandbox }> {
  answer.reply.header('location', `/v1/sandboxes/${answer.accepted.body.id}`);
  return answerCommand(deps, answer);
}
