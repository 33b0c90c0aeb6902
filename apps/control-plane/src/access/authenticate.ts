import type { Route, RouteAuth } from '@aviary/api-contract';
import { AppError } from '@aviary/core';
import type { FastifyRequest } from 'fastify';
import { findApiKeyOwner } from '../api-keys/api-key-store.ts';
import type { ServiceContext } from '../context.ts';
import type { SigningKey } from '../hosts/signing-key.ts';
import type { Authenticate, Callers } from '../http/register-routes.ts';

type Deps = Pick<ServiceContext, 'database' | 'clock'> & { signingKey: SigningKey };

/** Tells who calls: nobody in particular, a team by its API key, or a host agent by its token. */
export function createAuthenticate(deps: Deps): Authenticate {
  return (route, request) => authenticate(deps, route, request);
}

async function authenticate(deps: Deps, route: Route, request: FastifyRequest): Promise<Callers[RouteAuth]> {
  switch (route.auth) {
    case 'none':
      return undefined;
    case 'host':
      return { hostId: await deps.signingKey.verifyHostToken(readHeader(request, 'x-host-token')) };
    case 'api_key': {
      const key = readHeader(request, 'x-api-key');
      const owner = await findApiKeyOwner(deps.database.db, key, new Date(deps.clock.now()));
      if (!owner) throw new AppError('unauthorized', 'the API key is not valid; send one that is in X-API-Key');
      return { teamId: owner.teamId, keyId: owner.id, actor: { type: 'api_key', id: owner.id } };
    }
  }
}

function readHeader(request: FastifyRequest, name: string): string {
  const value = request.headers[name];
  if (typeof value !== 'string' || value === '') {
    throw new AppError('unauthorized', `this route needs the header ${name}`, { details: { header: name } });
  }
  return value;
}
