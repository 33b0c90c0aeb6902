import type { FastifyInstance } from 'fastify';
import type { ServiceContext } from '../context.ts';
import { getHost } from '../hosts/host-store.ts';
import { type AuthDeps, registerRoute } from '../http/register-route.ts';
import type { SettledWatch } from '../sandboxes/settled-watch.ts';
import { ingestSandboxEvents } from './sandbox-events.ts';

/** Where host agents report what happened to their sandboxes. */
export function registerEventRoutes(
  app: FastifyInstance,
  deps: AuthDeps & Pick<ServiceContext, 'database' | 'logger'> & { watch: SettledWatch },
): void {
  registerRoute(app, deps, {
    name: 'sandboxEvents',
    handle: async ({ caller, body, reply }) => {
      await getHost(deps.database.db, caller.hostId);
      await ingestSandboxEvents(deps, caller.hostId, body);
      reply.status(204);
    },
  });
}
