import { type Caller, callerRoutes } from '@aviary/api-contract';
import { AppError, formatId } from '@aviary/core';
import type { FastifyInstance } from 'fastify';
import { findTeamKey } from '../api-keys/api-key-store.ts';
import { viewApiKey } from '../api-keys/api-key-view.ts';
import type { ServiceContext } from '../context.ts';
import { type ApiDeps, registerRoutes, type TeamCaller } from '../http/register-routes.ts';
import { findTeam } from '../teams/team-store.ts';

type Deps = ApiDeps & Pick<ServiceContext, 'database'>;

/** Where a caller hears who they are. */
export function registerCallerRoutes(app: FastifyInstance, deps: Deps): void {
  registerRoutes(app, deps, {
    table: callerRoutes,
    handlers: { getCaller: ({ caller }) => describeCaller(deps, caller) },
  });
}

async function describeCaller({ database: { db } }: Deps, { teamId, via }: TeamCaller): Promise<Caller> {
  const team = await findTeam(db, teamId);
  const key = via.type === 'api_key' ? await findTeamKey(db, teamId, via.keyId) : undefined;
  // Let in a moment ago.
  if (!team || (via.type === 'api_key' && !key)) throw new AppError('unauthorized', 'the credential is good no longer');
  return {
    team: { id: formatId('team', team.id), name: team.name },
    api_key: key ? viewApiKey(key) : null,
    user: via.type === 'user' ? { user_id: formatId('user', via.user.userId), email: via.user.email } : null,
  };
}
