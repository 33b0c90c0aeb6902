import { snapshotRoutes } from '@aviary/api-contract';
import { AppError, formatId, parseId, type TeamId, type TemplateId } from '@aviary/core';
import { waitFor } from '@aviary/service-kit';
import type { FastifyInstance } from 'fastify';
import type { Db, ServiceContext } from '../context.ts';
import { joinCursor, splitCursor } from '../http/cursor.ts';
import { disconnectSignal } from '../http/disconnect-signal.ts';
import { readWaitMs } from '../http/prefer-wait.ts';
import { type ApiDeps, registerRoutes } from '../http/register-routes.ts';
import type { CommandDeps } from '../operations/accept-command.ts';
import { commandContext } from '../sandboxes/sandbox-routes.ts';
import { listTemplates, type TemplateRow, templateColumns } from '../templates/template-store.ts';
import { createSnapshot } from './create-snapshot.ts';
import { deleteSnapshot } from './delete-snapshot.ts';
import { viewSnapshot } from './snapshot-view.ts';

/** How often a waiter looks whether its snapshot is done. */
const lookMs = 250;

/** Templates made of sandboxes: create, list, delete. */
export function registerSnapshotRoutes(
  app: FastifyInstance,
  deps: CommandDeps & ApiDeps & Pick<ServiceContext, 'clock'>,
): void {
  const { db } = deps.database;
  registerRoutes(app, deps, {
    table: snapshotRoutes,
    handlers: {
      createSnapshot: async ({ caller, body, request, reply }) => {
        const accepted = await createSnapshot(deps, commandContext(caller, request), body);
        if (accepted.isReplay) reply.header('idempotency-replayed', 'true');
        const timeoutMs = readWaitMs(request);
        const id = parseId('template', accepted.body.id);
        const row =
          timeoutMs === 0
            ? undefined
            : await waitMade(deps, { teamId: caller.teamId, id, timeoutMs, signal: disconnectSignal(reply) });
        if (row?.status === 'error')
          throw new AppError('internal', `the snapshot failed: ${row.status_reason}`, { details: { status: 'error' } });
        return row?.status === 'ready'
          ? { status: 201, body: viewSnapshot(row) }
          : { status: 202, body: accepted.body };
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
        const page = rows.slice(0, limit);
        const last = rows.length > limit ? page.at(-1) : undefined;
        return {
          items: page.map(viewSnapshot),
          next_cursor: last ? joinCursor(last.name, formatId('template', last.id)) : null,
        };
      },
      deleteSnapshot: async ({ caller, params, request }) =>
        (await deleteSnapshot(deps, commandContext(caller, request), params.name)).body,
    },
  });
}

/** The template once it is made or has failed; undefined when that takes longer than the client waits. */
async function waitMade(
  { database, clock }: Pick<ServiceContext, 'database' | 'clock'>,
  { teamId, id, timeoutMs, signal }: { teamId: TeamId; id: TemplateId; timeoutMs: number; signal: AbortSignal },
): Promise<TemplateRow | undefined> {
  try {
    return await waitFor({ what: 'the snapshot', timeoutMs, intervalMs: lookMs, clock, signal }, async () => {
      const row = await findTemplate(database.db, teamId, id);
      return row?.status === 'creating' ? undefined : row;
    });
  } catch (error) {
    if (signal.aborted || (error instanceof AppError && error.code === 'deadline_exceeded')) return undefined;
    throw error;
  }
}

function findTemplate(db: Db, teamId: TeamId, id: TemplateId): Promise<TemplateRow | undefined> {
  return db
    .selectFrom('templates')
    .select(templateColumns)
    .where('team_id', '=', teamId)
    .where('id', '=', id)
    .executeTakeFirst();
}
