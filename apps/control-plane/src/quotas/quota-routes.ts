import { type Quota, quotaRoutes, type SetQuota } from '@aviary/api-contract';
import { AppError, formatId, parseId, type TeamId } from '@aviary/core';
import type { FastifyInstance } from 'fastify';
import { recordAudit } from '../audit/audit-store.ts';
import type { Db, ServiceContext } from '../context.ts';
import { type ApiDeps, registerRoutes } from '../http/register-routes.ts';
import { findTeam } from '../teams/team-store.ts';
import { findQuota, type QuotaLimits, saveQuota, sumTeam } from './quota-store.ts';

/** Where teams read their limits, and administrators of the platform set them. */
export function registerQuotaRoutes(
  app: FastifyInstance,
  deps: ApiDeps & Pick<ServiceContext, 'database' | 'clock'>,
): void {
  const { database, clock } = deps;
  registerRoutes(app, deps, {
    table: quotaRoutes,
    handlers: {
      getTeamQuota: ({ caller }) => readQuota(database.db, caller.teamId),
      getQuota: async ({ params }) => {
        const teamId = parseId('team', params.team_id, 'team_id');
        if (!(await findTeam(database.db, teamId))) throw noSuchTeam();
        return readQuota(database.db, teamId);
      },
      setQuota: async ({ params, body, caller: { actor } }) => {
        const teamId = parseId('team', params.team_id, 'team_id');
        return await database.transaction(async ({ db }) => {
          if (!(await saveQuota(db, teamId, readLimits(body), new Date(clock.now())))) throw noSuchTeam();
          await recordAudit(db, { teamId, actor, action: 'team.set_quota', resourceId: teamId, metadata: body });
          return readQuota(db, teamId);
        });
      },
    },
  });
}

const unlimited: QuotaLimits = { sandboxes: null, vcpus: null, memory_mib: null, disk_mib: null, templates: null };

async function readQuota(db: Db, teamId: TeamId): Promise<Quota> {
  const { memory_mib: limitMemory, disk_mib: limitDisk, ...limits } = (await findQuota(db, teamId)) ?? unlimited;
  const { memory_mib: usedMemory, disk_mib: usedDisk, ...used } = await sumTeam(db, teamId);
  return {
    team_id: formatId('team', teamId),
    limits: { ...limits, memory_mb: limitMemory, disk_size_mb: limitDisk },
    used: { ...used, memory_mb: usedMemory, disk_size_mb: usedDisk },
  };
}

function readLimits({ memory_mb, disk_size_mb, ...same }: SetQuota): QuotaLimits {
  return { ...same, memory_mib: memory_mb, disk_mib: disk_size_mb };
}

function noSuchTeam(): AppError {
  return new AppError('not_found', 'there is no such team');
}
