import { errorStatuses, type Route, type RouteAccess, type RouteTable } from '@aviary/api-contract';
import {
  type ApiKeyId,
  AppError,
  type HostId,
  type SessionId,
  type TeamId,
  type TeamRole,
  type UserId,
} from '@aviary/core';
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteOptions } from 'fastify';
import type { Static, TSchema } from 'typebox';
import type { Actor } from '../context.ts';
import type { AccessSubject } from './access-change-store.ts';
import { type Answer, onlyStatus } from './answer.ts';
import { findAnswerFault } from './answer-check.ts';
import { type ErrorBody, errorBody, sendError } from './error-reply.ts';
import { type Frames, frameSocket, type SocketOf } from './frame-socket.ts';
import { callEnd, type OpenCalls, untilEnded } from './open-calls.ts';
import { RateLimited, type RateLimits, type RateSubject, rateLimitHeaders } from './rate-limits.ts';

/** Who calls, by whom the route lets in. */
export interface Callers extends Record<RouteAccess['by'], unknown> {
  anyone: undefined;
  host: { hostId: HostId };
  user: UserCaller;
  platform_admin: UserCaller;
  team: TeamCaller;
}

/** A person who has signed in. */
export interface UserCaller {
  userId: UserId;
  sessionId: SessionId;
  /** The team that the session's access token is for. */
  currentTeamId: TeamId | null;
  email: string;
  name: string;
  isAdmin: boolean;
  actor: Actor;
}

/** A team, and by what it calls. */
export interface TeamCaller {
  teamId: TeamId;
  actor: Actor;
  via: { type: 'api_key'; keyId: ApiKeyId } | { type: 'user'; user: UserCaller; role: TeamRole };
}

type Part<R extends Route, P extends 'params' | 'query' | 'body'> =
  R extends Record<P, infer S extends TSchema> ? Static<S> : undefined;

/** What a handler gets; its parts have the types of the contract, checked by the schemas. */
export interface Call<R extends Route = Route> {
  route: R;
  params: Part<R, 'params'>;
  query: Part<R, 'query'>;
  body: Part<R, 'body'>;
  caller: Callers[R['access']['by']];
  request: FastifyRequest;
  /** For headers; the answer itself is what the handler resolves with. */
  reply: FastifyReply;
}

/** What a handler does; of a socket, what refuses or opens it before the upgrade and resolves with what serves it. */
export type Handler<R extends Route> = R extends { frames: infer F extends Frames }
  ? (call: Call<R>) => Promise<(socket: SocketOf<F>) => Promise<void>>
  : (call: Call<R>) => Promise<Answer<R>>;

/** A handler for every route of a table: one that is missing does not compile. */
export type Handlers<T extends RouteTable> = { readonly [N in keyof T]: Handler<T[N]> };

/** Finds out who calls a route, as its `access` asks. Throws `unauthorized`, `forbidden`, or `not_found` for a team that is not the caller's. */
export type Authenticate = (
  route: Route,
  request: FastifyRequest,
  /** When the caller came, if not now: a token that was good then stays good for what it opened. */
  options?: { cameAt?: Date },
) => Promise<Callers[RouteAccess['by']]>;

/** What makes an API of a table: who may call it, how it tells errors, and whether its answers are held against the contract. */
export interface ApiDeps {
  authenticate: Authenticate;
  /** Default: the error shape of our own API. */
  errorBody?: ErrorBody;
  /** Counts requests; default: nobody does. */
  rateLimits?: RateLimits;
  /** Keeps the calls that are open, to end those whose callers are no longer let in. */
  openCalls?: OpenCalls;
  /** An answer that the contract does not allow becomes an error 500: for development and tests. */
  checksAnswers?: boolean;
}

type AnyHandler = (call: Call) => Promise<unknown>;
type Serve = (socket: SocketOf<Frames>) => Promise<void>;

const callers = new WeakMap<FastifyRequest, unknown>();

/** Serves every route of `table` with its handler: validation, authentication, answers and errors as the contract says. */
export function registerRoutes<T extends RouteTable>(
  app: FastifyInstance,
  deps: ApiDeps,
  { table, handlers }: { table: T; handlers: Handlers<T> },
): void {
  for (const name of Object.keys(table)) {
    const route = table[name] as Route;
    const handle = handlers[name as keyof T] as AnyHandler;
    const options = { ...routeOptions(deps, route), handler: answerWith(deps, route, handle) };
    app.route(route.frames ? { ...options, ...socketOptions(deps, { route, frames: route.frames, handle }) } : options);
  }
}

/** A body is held in memory until it is whole: of callers whom nobody knows, little. */
const maxAnonymousBytes = 64 * 1024;

function routeOptions(deps: ApiDeps, route: Route): Omit<RouteOptions, 'handler'> {
  const statuses = errorStatuses(route);
  const tell = deps.errorBody ?? errorBody;
  return {
    method: route.method,
    url: route.path.replaceAll(/\{(\w+)\}/g, ':$1'),
    ...(route.access.by === 'anyone' ? { bodyLimit: maxAnonymousBytes } : {}),
    schema: {
      ...(route.params ? { params: route.params } : {}),
      ...(route.query ? { querystring: route.query } : {}),
      // Multipart bodies are streamed and checked by their handler.
      ...(route.body && !route.bodyType ? { body: route.body } : {}),
    },
    onRequest: async (request, reply) => {
      callers.set(request, await admit(deps, { route, request, reply }));
      const close = keepOpen(deps, { route, request, end: (error) => endCall(request, reply, error) });
      if (close) reply.raw.once('close', close);
      if (route.body) checkMediaType(request, route.bodyType ?? 'application/json');
    },
    preValidation: async (request) => {
      if (route.isBodyOptional) request.body ??= {};
    },
    errorHandler: (error, request, reply) => {
      void sendError(error, request, reply, {
        tell,
        isAllowed: (status) => !deps.checksAnswers || status === clientGone || statuses.includes(status),
      });
    },
  };
}

/** Finds out who calls, and counts the request for whoever that is. */
async function admit(
  { rateLimits, authenticate }: ApiDeps,
  { route, request, reply }: { route: Route; request: FastifyRequest; reply: FastifyReply },
): Promise<Callers[RouteAccess['by']]> {
  if (!rateLimits || route.isUnlimited) return authenticate(route, request);
  const { ip } = request;
  try {
    const isKnown = route.access.by !== 'anyone';
    const caller = await authenticate(route, request).catch((error: unknown) => {
      if (error instanceof AppError && error.code === 'unauthorized') rateLimits.takeRefusal(ip);
      throw error;
    });
    const allowance = isKnown ? rateLimits.take(rateSubjectsOf(caller)) : rateLimits.takeAddress(ip);
    if (allowance) reply.headers(rateLimitHeaders(allowance));
    return caller;
  } catch (error) {
    if (error instanceof RateLimited) reply.headers(rateLimitHeaders(error.allowance));
    throw error;
  }
}

/** By what a caller's requests are counted. Host agents are parts of the platform: nobody counts theirs. */
function rateSubjectsOf(caller: Callers[RouteAccess['by']]): RateSubject[] {
  if (!caller || 'hostId' in caller) return [];
  if ('userId' in caller) return [{ kind: 'user', id: caller.userId }];
  const { teamId, via } = caller;
  const self =
    via.type === 'api_key'
      ? ({ kind: 'key', id: via.keyId } as const)
      : ({ kind: 'user', id: via.user.userId } as const);
  return [self, { kind: 'team', id: teamId }];
}

/** Keeps the call among the open ones until the function that it returns is called; undefined when nobody could be refused it. */
function keepOpen(
  { openCalls, authenticate }: ApiDeps,
  { route, request, end }: { route: Route; request: FastifyRequest; end: (error: AppError) => void },
): (() => void) | undefined {
  const subjects = subjectsOf(callers.get(request) as Callers[RouteAccess['by']]);
  if (!openCalls || subjects.length === 0) return undefined;
  const admitAgain = (cameAt: Date) => authenticate(route, request, { cameAt });
  return openCalls.add({ requestId: request.id, subjects, admitAgain, end });
}

/** By whose right somebody calls. */
function subjectsOf(caller: Callers[RouteAccess['by']]): AccessSubject[] {
  if (!caller || 'hostId' in caller) return [];
  if ('userId' in caller) return [{ type: 'user', id: caller.userId }];
  const { teamId, via } = caller;
  const self =
    via.type === 'api_key'
      ? ({ type: 'api_key', id: via.keyId } as const)
      : ({ type: 'user', id: via.user.userId } as const);
  return [self, { type: 'team', id: teamId }];
}

/** Answers an open call with `error`, or breaks off the answer that has begun. */
function endCall(request: FastifyRequest, reply: FastifyReply, error: AppError): void {
  callEnd(request).abort(error);
  if (reply.raw.headersSent) reply.raw.destroy();
}

/** Told to nobody: the client closed the connection. */
const clientGone = 499;

/** Parsers are chosen by what the client says it sends; what a route takes is its contract's to say. */
function checkMediaType(request: FastifyRequest, wanted: string): void {
  const sent = request.headers['content-type'];
  if (sent === undefined || sent.split(';', 1)[0]?.trim().toLowerCase() === wanted) return;
  throw new AppError('unsupported_media_type', `this route takes ${wanted}, not ${sent.slice(0, 100)}`, {
    details: { content_type: wanted },
  });
}

function answerWith(deps: ApiDeps, route: Route, handle: AnyHandler): RouteOptions['handler'] {
  const only = onlyStatus(route);
  return async (request, reply) => {
    const result = await untilEnded(request, handle(readCall(route, request, reply)));
    const { status, body: told } =
      only === undefined ? (result as { status: number; body: unknown }) : { status: only, body: result };
    const body = route.replies[status] === null ? undefined : told;
    const fault = deps.checksAnswers ? findAnswerFault(route, { status, body }) : undefined;
    if (fault !== undefined) throw new AppError('internal', fault);
    const kind = route.replies[status];
    if (typeof kind === 'string') reply.type(kind);
    return reply.status(status).send(body);
  };
}

function socketOptions(
  deps: ApiDeps,
  { route, frames, handle }: { route: Route; frames: Frames; handle: AnyHandler },
): Pick<RouteOptions, 'handler' | 'wsHandler' | 'preHandler'> {
  const opened = new WeakMap<object, Serve>();
  return {
    preHandler: async (request, reply) => {
      const serve = (await untilEnded(request, handle(readCall(route, request, reply)))) as Serve;
      if (!request.ws) throw new AppError('invalid_request', 'this route is a WebSocket; connect with one');
      opened.set(request, serve);
    },
    handler: async () => {
      throw new Error('a request that is no upgrade has passed the check before');
    },
    wsHandler: (socket, request) => {
      const serve = opened.get(request);
      if (!serve) return socket.close(1011);
      const open = frameSocket(socket, { frames, isChecked: deps.checksAnswers ?? false });
      const close = keepOpen(deps, { route, request, end: ({ message }) => open.end(message) });
      if (close) open.closed.addEventListener('abort', close, { once: true });
      serve(open).catch((error: unknown) => {
        request.log.error({ err: error }, 'socket failed');
        socket.close(1011);
      });
    },
  };
}

function readCall(route: Route, request: FastifyRequest, reply: FastifyReply): Call {
  const { params, query, body } = request;
  return { route, params, query, body, caller: callers.get(request), request, reply } as Call;
}
