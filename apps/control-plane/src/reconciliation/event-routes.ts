import { hostEventRoutes } from '@aviary/api-contract';
import type { FastifyInstance } from 'fastify';
import type { ServiceContext } from '../context.ts';
import { getHost } from '../hosts/host-store.ts';
import { type ApiDeps, registerRoutes } from '../http/register-routes.ts';
import { ingestSandboxEvents } from './sandbox-events.ts';

/** Where host agents report what happened to their sandboxes. */
export function registerEventRoutes(
  app: FastifyInstance,
  deps: ApiDeps & Pick<ServiceContext, 'database' | 'logger'>,
): void {
  registerRoutes(app, deps, {
    table: hostEventRoutes,
    handlers: {
      sandboxEvents: async ({ caller, body }) => {
        await getHost(deps.database.db, caller.hostId);
        await ingestSandboxEvents(deps, caller.hostId, body);
      },
    },
  });
}
