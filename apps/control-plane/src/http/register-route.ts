import { type Route, type RouteName, routes } from '@aviary/api-contract';
import { type ApiKeyId, AppError, type HostId, type TeamId } from '@aviary/core';
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteShorthandOptions } from 'fastify';
import type { Static, TSchema } from 'typebox';
import { findApiKeyOwner } from '../api-keys/api-key-store.ts';
import type { Actor, ServiceContext } from '../context.ts';
import type { SigningKey } from '../hosts/signing-key.ts';

type Part<N extends RouteName, P extends 'params' | 'query' | 'body'> =
  (typeof routes)[N] extends Record<P, infer S extends TSchema> ? Static<S> : undefined;

/** Who calls, by the route's kind of authentication. */
export type Caller<N extends RouteName> = (typeof routes)[N]['auth'] extends 'api_key'
  ? { teamId: TeamId; keyId: ApiKeyId; actor: Actor }
  : (typeof routes)[N]['auth'] extends 'host'
    ? { hostId: HostId }
    : undefined;

export interface Call<N extends RouteName> {
  params: Part<N, 'params'>;
  query: Part<N, 'query'>;
  body: Part<N, 'body'>;
  caller: Caller<N>;
  request: FastifyRequest;
  reply: FastifyReply;
}

export type AuthDeps = Pick<ServiceContext, 'database' | 'clock'> & { signingKey: SigningKey };

const callers = new WeakMap<FastifyRequest, unknown>();

/** The Fastify options of a route of the contract: its schemas, and who may call it. */
export function routeOptions(deps: AuthDeps, name: RouteName): RouteShorthandOptions {
  const route: Route = routes[name];
  return {
    schema: {
      ...(route.params ? { params: route.params } : {}),
      ...(route.query ? { querystring: route.query } : {}),
      // Multipart bodies are streamed and checked by their handler.
      ...(route.body && !route.bodyType ? { body: route.body } : {}),
    },
    onRequest: async (request) => {
      callers.set(request, await authenticate(deps, route, request));
    },
    ...(route.isBodyOptional
      ? {
          preValidation: async (request) => {
            request.body ??= {};
          },
        }
      : {}),
  };
}

/** What a handler of route `name` gets; its parts have the types of the contract, checked by the schemas. */
export function readCall<N extends RouteName>(request: FastifyRequest, reply: FastifyReply): Call<N> {
  const { params, query, body } = request;
  return { params, query, body, caller: callers.get(request), request, reply } as Call<N>;
}

/** Adds a route of the contract. The handler's answer is the body; it sets a status other than 200 itself. */
export function registerRoute<N extends RouteName>(
  app: FastifyInstance,
  deps: AuthDeps,
  { name, handle }: { name: N; handle: (call: Call<N>) => Promise<unknown> },
): void {
  const { method, path } = routes[name];
  app.route({
    ...routeOptions(deps, name),
    method,
    url: path.replaceAll(/\{(\w+)\}/g, ':$1'),
    handler: (request, reply) => handle(readCall<N>(request, reply)),
  });
}

async function authenticate(deps: AuthDeps, route: Route, request: FastifyRequest): Promise<unknown> {
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
