import { snapshotRoutes } from '@aviary/api-contract';
import { formatId, parseId } from '@aviary/core';
import type { FastifyInstance } from 'fastify';
import { joinCursor, pageOf, splitCursor } from '../http/cursor.ts';
import { type ApiDeps, registerRoutes } from '../http/register-routes.ts';
import type { CommandDeps } from '../operations/accept-command.ts';
import { answerCommand, commandContext } from '../operations/answer-command.ts';
import type { OperationWaits } from '../operations/operation-waits.ts';
import { listTemplates } from '../templates/template-store.ts';
import { createSnapshot } from './create-snapshot.ts';
import { deleteSnapshot } from './delete-snapshot.ts';
import { viewSnapshot } from './snapshot-view.ts';

/** Templates made of sandboxes: create, list, delete. */
export function registerSnapshotRoutes(
  app: FastifyInstance,
  deps: CommandDeps & ApiDeps & { waits: OperationWaits },
): void {
  const { db } = deps.database;
  registerRoutes(app, deps, {
    table: snapshotRoutes,
    handlers: {
      createSnapshot: async ({ caller, body, request, reply }) => {
        const accepted = await createSnapshot(deps, commandContext(caller, request), body);
        return answerCommand(deps, { caller, request, reply, accepted, settledStatus: 201 });
      },
      listSnapshots: async ({ caller, query }) => {
        const limit = query.limit ?? 50;
        const [name, id] = splitCursor(query.cursor);
        const rows = await listTemplates(db, {
          teamId: caller.teamId,
          limit: limit + 1,
          ...(query.type === undefined ? {} : { kind: query.type }),
          ...(name === undefined || id === undefined ? {} : { after: { name, id: parseId('template', id, 'cursor') } }),
        });
        const cursorOf = (row: (typeof rows)[number]) => joinCursor(row.name, formatId('template', row.id));
        return pageOf(rows, { limit, view: viewSnapshot, cursorOf });
      },
      deleteSnapshot: async ({ caller, params, request, reply }) => {
        const accepted = await deleteSnapshot(deps, commandContext(caller, request), params.name);
        return answerCommand(deps, { caller, request, reply, accepted, settledStatus: 200 });
      },
    },
  });
}
