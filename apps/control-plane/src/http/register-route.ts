import { type Route, type RouteName, routes } from '@aviary/api-contract';
import type { ApiKeyId, HostId, TeamId } from '@aviary/core';
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteShorthandOptions } from 'fastify';
import type { Static, TSchema } from 'typebox';
import type { Actor } from '../context.ts';

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

/** Finds out who calls a route, as its `auth` asks. Throws `unauthorized`. */
export type Authenticate = (route: Route, request: FastifyRequest) => Promise<unknown>;

export interface AuthDeps {
  authenticate: Authenticate;
}

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
      callers.set(request, await deps.authenticate(route, request));
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
