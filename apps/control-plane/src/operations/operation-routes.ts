import { operationRoutes } from '@aviary/api-contract';
import { parseId } from '@aviary/core';
import type { FastifyInstance } from 'fastify';
import type { ServiceContext } from '../context.ts';
import { type ApiDeps, registerRoutes } from '../http/register-routes.ts';
import { findOperation } from './operation-store.ts';
import { viewOperation } from './operation-view.ts';
import { noSuchOperation } from './operation-waits.ts';

/** Where clients look up what came of a command. */
export function registerOperationRoutes(app: FastifyInstance, deps: ApiDeps & Pick<ServiceContext, 'database'>): void {
  registerRoutes(app, deps, {
    table: operationRoutes,
    handlers: {
      getOperation: async ({ caller, params }) => {
        const row = await findOperation(deps.database.db, caller.teamId, parseId('operation', params.id, 'id'));
        if (!row) throw noSuchOperation();
        return viewOperation(row);
      },
    },
  });
}
