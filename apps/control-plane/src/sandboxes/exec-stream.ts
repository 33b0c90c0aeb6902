import { execStreamRoutes } from '@aviary/api-contract';
import { parseId } from '@aviary/core';
import type { FastifyInstance } from 'fastify';
import { type ApiDeps, registerRoutes } from '../http/register-routes.ts';
import { serveExec } from './exec-session.ts';
import { type DataDeps, noteActivity, openRunning } from './running-sandbox.ts';

/** Runs a command over a WebSocket. The key and the sandbox are checked before the upgrade. */
export function registerExecStreamRoute(app: FastifyInstance, deps: DataDeps & ApiDeps): void {
  registerRoutes(app, deps, {
    table: execStreamRoutes,
    handlers: {
      execStream: async ({ caller: { teamId }, params }) => {
        const id = parseId('sandbox', params.id, 'id');
        const client = await openRunning(deps, { teamId, id, action: 'exec', activity: 'stream' });
        return (socket) => serveExec(socket, { client, id, onUse: () => noteActivity(deps, id, 'stream') });
      },
    },
  });
}
