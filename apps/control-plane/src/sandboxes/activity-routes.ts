import { activityRoutes } from '@aviary/api-contract';
import { canSandbox, parseId } from '@aviary/core';
import type { FastifyInstance } from 'fastify';
import { runOnceByKey } from '../http/idempotent.ts';
import { type ApiDeps, registerRoutes } from '../http/register-routes.ts';
import { type DataDeps, noteActivity, openRunning } from './running-sandbox.ts';
import { getSandbox, stateConflict, updateTimeout } from './sandbox-store.ts';
import { viewSandbox } from './sandbox-view.ts';

/** Ping, which puts off auto-pause, and the idle time after which it comes. */
export function registerActivityRoutes(app: FastifyInstance, deps: DataDeps & ApiDeps): void {
  const { database, hostClients } = deps;
  registerRoutes(app, deps, {
    table: activityRoutes,
    handlers: {
      pingSandbox: async ({ caller: { teamId }, params }) => {
        const id = parseId('sandbox', params.id, 'id');
        const client = await openRunning(deps, { teamId, id, action: 'ping' });
        await client.pingSandbox({ sandboxId: id });
        await noteActivity(deps, id, 'ping');
      },
      setTimeout: (call) =>
        runOnceByKey(deps, call, async () => {
          const {
            caller: { teamId },
            params,
            body,
          } = call;
          const id = parseId('sandbox', params.id, 'id');
          const row = await getSandbox(database.db, teamId, id);
          if (!canSandbox('set_timeout', row.status)) throw stateConflict(row, 'set_timeout');
          // The host counts the idle time, so a running sandbox is told first; a resume hands the stored value over.
          if (row.status === 'running') {
            const client = await hostClients.get(row.host_id);
            await client.setTimeout({ sandboxId: id, timeoutSec: body.timeout_sec });
          }
          const updated = await updateTimeout(database.db, id, body.timeout_sec);
          return viewSandbox(updated);
        }),
    },
  });
}
