import { errorStatuses, type Route, type RouteAccess, type RouteTable } from '@aviary/api-contract';
import { AppError, must } from '@aviary/core';
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteOptions } from 'fastify';
import type { Static, TSchema } from 'typebox';
import { type AdmitDeps, admit, authenticateCounted, endCall, keepOpen } from './admit.ts';
import { type Answer, onlyStatus } from './answer.ts';
import { findAnswerFault } from './answer-check.ts';
import type { CallerOf, Callers, RecalledKey, RecallKey } from './callers.ts';
import { type ErrorBody, errorBody, sendError } from './error-reply.ts';
import { type Frames, frameSocket, type SocketOf } from './frame-socket.ts';
import { type OpenCalls, untilEnded } from './open-calls.ts';
import { foreignPage, readPageOrigin } from './page-origin.ts';

export type { Authenticate, Callers, MemberCaller, RecallKey, TeamCaller, UserCaller } from './callers.ts';

type Part<R extends Route, P extends 'params' | 'query' | 'body'> =
  R extends Record<P, infer S extends TSchema> ? Static<S> : undefined;

/** What a handler gets; its parts have the types of the contract, checked by the schemas. */
export interface Call<R extends Route = Route> {
  route: R;
  params: Part<R, 'params'>;
  query: Part<R, 'query'>;
  body: Part<R, 'body'>;
  caller: CallerOf<R['access']>;
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

/**
 * Reads what a route answers in the same query as whether the caller's key is good. Undefined when there is no such thing, or the key
 * is good no longer: then the caller is looked up, and the handler asked.
 */
export type KeyedRead<R extends Route> = (
  call: Pick<Call<R>, 'params' | 'query'> & { key: RecalledKey },
) => Promise<Answer<R> | undefined>;

/** For routes that are asked all the time. */
export type KeyedReads<T extends RouteTable> = { readonly [N in keyof T]?: KeyedRead<T[N]> };

/** What makes an API of a table: who may call it, how it tells errors, and whether its answers are held against the contract. */
export interface ApiDeps extends AdmitDeps {
  /** Default: every key is looked up before the handler is asked. */
  recallKey?: RecallKey;
  /** Default: the error shape of our own API. */
  errorBody?: ErrorBody;
  /** Keeps the calls that are open, to end those whose callers are no longer let in. */
  openCalls?: OpenCalls;
  /** Where people reach the platform: its own pages are from there. For tables with routes that are for them. */
  publicUrl?: URL;
  /** An answer that the contract does not allow becomes an error 500: for development and tests. */
  checksAnswers?: boolean;
}

type AnyHandler = (call: Call) => Promise<unknown>;
type AnyKeyedRead = KeyedRead<Route>;
type Serve = (socket: SocketOf<Frames>) => Promise<void>;

const callers = new WeakMap<FastifyRequest, unknown>();
/** Keys that nobody has looked up yet for a request. */
const recalled = new WeakMap<FastifyRequest, RecalledKey>();

/** Serves every route of `table` with its handler: validation, authentication, answers and errors as the contract says. */
export function registerRoutes<T extends RouteTable>(
  app: FastifyInstance,
  deps: ApiDeps,
  { table, handlers, keyedReads = {} }: { table: T; handlers: Handlers<T>; keyedReads?: KeyedReads<T> },
): void {
  for (const name of Object.keys(table)) {
    const route = table[name] as Route;
    const handle = handlers[name as keyof T] as AnyHandler;
    const read = keyedReads[name as keyof T] as AnyKeyedRead | undefined;
    const options = {
      ...routeOptions(deps, { route, isKeyed: read !== undefined }),
      handler: answerWith(deps, route, read ? readOrHandle(deps, { route, read, handle }) : whileAllowed(handle)),
    };
    app.route(route.frames ? { ...options, ...socketOptions(deps, { route, frames: route.frames, handle }) } : options);
  }
}

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Who serves the route counts its requests. */
    isOfTable?: true;
  }
}

/** Whether a request is to a route of a table, which counts it as the table says. */
export function isTableRoute({ routeOptions }: FastifyRequest): boolean {
  return routeOptions.config.isOfTable === true;
}

/** A body is held in memory until it is whole: of callers whom nobody knows, little. */
const maxAnonymousBytes = 64 * 1024;

function routeOptions(
  deps: ApiDeps,
  { route, isKeyed }: { route: Route; isKeyed: boolean },
): Omit<RouteOptions, 'handler'> {
  const statuses = errorStatuses(route);
  const tell = deps.errorBody ?? errorBody;
  const pages = route.isForOwnPages ? must(deps.publicUrl, `${route.path} has to know our own pages`) : undefined;
  return {
    config: { isOfTable: true },
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
      // Answers are somebody's own and of this moment, and some hold secrets: nobody on their way keeps one.
      reply.header('cache-control', 'no-store');
      const key = isKeyed ? deps.recallKey?.(route, request) : undefined;
      const caller = await admit(deps, { route, request, reply, known: key?.caller });
      callers.set(request, caller);
      // Whether that key is good is asked with the answer itself, which is all that there is to end.
      if (key) recalled.set(request, key);
      else
        closeWithReply(
          reply,
          keepOpen(deps, { route, request, caller, end: (error) => endCall(request, reply, error) }),
        );
      if (pages && readPageOrigin(pages, request) === 'foreign') throw foreignPage();
      if (route.body) checkMediaType(request, route.bodyType ?? 'application/json');
    },
    ...(route.isBodyOptional ? { preValidation: fillBody } : {}),
    errorHandler: (error, request, reply) => {
      void sendError(error, request, reply, {
        tell,
        isAllowed: (status) => !deps.checksAnswers || status === clientGone || statuses.includes(status),
      });
    },
  };
}

function closeWithReply(reply: FastifyReply, close: (() => void) | undefined): void {
  if (close) reply.raw.once('close', close);
}

const fillBody = (request: FastifyRequest, _reply: FastifyReply, done: () => void) => {
  request.body ??= {};
  done();
};

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

/** Asks for what was asked for together with the key that was recalled; what that does not answer, the handler does for a caller looked up. */
function readOrHandle(
  deps: ApiDeps,
  { route, read, handle }: { route: Route; read: AnyKeyedRead; handle: AnyHandler },
): AnyHandler {
  return async (call) => {
    const key = recalled.get(call.request);
    if (!key) return whileAllowed(handle)(call);
    const answer = await read({ params: call.params, query: call.query, key });
    if (answer !== undefined) {
      key.noteUse();
      return answer;
    }
    const caller = await authenticateCounted(deps, route, call.request);
    return handle({ ...call, caller });
  };
}

/** Ends with the right of its caller to call. */
function whileAllowed(handle: AnyHandler): AnyHandler {
  return (call) => untilEnded(call.request, handle(call));
}

function answerWith(deps: ApiDeps, route: Route, handle: AnyHandler): RouteOptions['handler'] {
  const only = onlyStatus(route);
  return async (request, reply) => {
    const result = await handle(readCall(route, request, reply));
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
      const caller = callers.get(request) as Callers[RouteAccess['by']];
      const close = keepOpen(deps, { route, request, caller, end: ({ message }) => open.end(message) });
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
