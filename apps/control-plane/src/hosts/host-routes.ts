import { type Host, hostRoutes } from '@aviary/api-contract';
import { AppError, formatId, type HostId, parseId, platformTeamId } from '@aviary/core';
import type { FastifyInstance } from 'fastify';
import { recordAudit } from '../audit/audit-store.ts';
import type { ServiceContext } from '../context.ts';
import { type ApiDeps, registerRoutes } from '../http/register-routes.ts';
import { type HostRow, listHostsForTeam, touchHost } from './host-store.ts';
import { refreshHost, registerHost } from './register-host.ts';
import type { SigningKey } from './signing-key.ts';

type Deps = ApiDeps &
  Pick<ServiceContext, 'database' | 'clock' | 'logger'> & {
    signingKey: SigningKey;
    reconciler: { reconcileHost(id: HostId): Promise<void> };
  };

/** Registration, refresh and heartbeat of host agents, and the list of hosts for teams. */
export function registerHostRoutes(app: FastifyInstance, deps: Deps): void {
  registerRoutes(app, deps, {
    table: hostRoutes,
    handlers: {
      listHosts: async ({ caller }) => ({
        items: (await listHostsForTeam(deps.database.db, caller.teamId)).map(viewHost),
      }),
      registerHost: ({ body }) => registerHost(deps, body),
      refreshHost: ({ body }) => refreshHost(deps, body.refresh_token),
      heartbeat: async ({ caller, params, body }) => {
        const id = parseId('host', params.id, 'id');
        if (id !== caller.hostId) throw new AppError('forbidden', 'this host token belongs to another host');
        const touched = await deps.database.transaction(async ({ db }) => {
          const seen = await touchHost(db, {
            id,
            agentVersion: body.agent_version,
            address: body.address,
            now: new Date(deps.clock.now()),
          });
          if (seen?.wasUnreachable) {
            await recordAudit(db, {
              teamId: seen.teamId ?? platformTeamId,
              actor: { type: 'host', id, name: seen.address },
              resourceId: id,
              action: 'host.marked_up',
            });
          }
          return seen;
        });
        if (!touched) throw new AppError('not_found', 'there is no such host');
        if (touched.wasUnreachable) {
          // Its sandboxes are `missing`: ask for them now rather than in the reconciler's next round.
          void deps.reconciler
            .reconcileHost(id)
            .catch((error: unknown) => deps.logger.warn({ hostId: id, err: error }, 'host not reconciled'));
        }
      },
    },
  });
}

function viewHost(row: HostRow): Host {
  return {
    id: formatId('host', row.id),
    status: row.status,
    address: row.address,
    arch: row.arch,
    cpu_cores: row.cpu_cores,
    memory_mb: row.memory_mib,
    disk_gb: row.disk_gib,
    agent_version: row.agent_version,
    last_heartbeat_at: row.last_heartbeat_at?.toISOString() ?? null,
  };
}
