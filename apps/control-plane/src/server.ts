import type { Socket } from 'node:net';
import { apiVersion, type Health, healthRoutes } from '@aviary/api-contract';
import { AppError, fileLimits, uuidv7 } from '@aviary/core';
import { runWithTrace } from '@aviary/service-kit';
import multipart from '@fastify/multipart';
import websocket from '@fastify/websocket';
import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from 'fastify';
import type { ServiceContext } from './context.ts';
import { registerDocuments } from './http/documents.ts';
import { errorBody, sendError, unknownRoute } from './http/error-reply.ts';
import { checkJsonBounds } from './http/json-bounds.ts';
import { watchPaths } from './http/known-paths.ts';
import { RateLimited, rateLimitHeaders } from './http/rate-limits.ts';
import { type ApiDeps, isTableRoute, registerRoutes } from './http/register-routes.ts';
import { compileValidator } from './http/validator.ts';

const maxJsonBytes = 16 * 1024 * 1024;
const maxHeaderBytes = 16 * 1024;
const headersTimeoutMs = 15_000;
/** Longer than a transfer may take. */
const requestTimeoutMs = 35 * 60_000;
const lostClientProbeMs = 15_000;
const maxFrameBytes = 1024 * 1024;

const newRequestId = () => `req-${uuidv7()}`;

/** A server with our errors, limits, validation and documents, and no route of its own but `/health`. */
export async function createServer(
  deps: ApiDeps & Pick<ServiceContext, 'database' | 'logger'>,
  { trustedProxies }: { trustedProxies?: string | undefined } = {},
): Promise<FastifyInstance> {
  const app = Fastify({
    loggerInstance: deps.logger as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: maxJsonBytes,
    // Without a proxy before it, anybody could say to be anybody.
    ...(trustedProxies === undefined ? {} : { trustProxy: trustedProxies }),
    genReqId: newRequestId,
    requestIdHeader: false,
    // The trace puts the request's id into every line.
    childLoggerFactory: (logger) => logger,
    forceCloseConnections: 'idle',
    http: {
      maxHeaderSize: maxHeaderBytes,
      headersTimeout: headersTimeoutMs,
      // A client that is lost without a word is found out by the kernel: what it runs in a sandbox must not go on for nobody.
      keepAlive: true,
      keepAliveInitialDelay: lostClientProbeMs,
    },
    // A body may take its time (uploads), headers may not; neither may take for ever.
    requestTimeout: requestTimeoutMs,
    clientErrorHandler: refuseConnection,
    frameworkErrors: (error, request, reply) => void sendError(error, request, reply),
    routerOptions: { maxParamLength: 256 },
  });
  app.setValidatorCompiler(({ schema, httpPart }) =>
    compileValidator(schema as object, httpPart === 'body' ? 'body' : 'text'),
  );
  app.setSerializerCompiler(() => (data) => JSON.stringify(data));
  parseJson(app);
  app.removeContentTypeParser('text/plain');
  const allowed = watchPaths(app);
  app.addHook('onRequest', (request, reply, done) => {
    reply.header('x-request-id', request.id).header('x-content-type-options', 'nosniff');
    if (!countPage(deps, request, reply)) return;
    if (!request.is404) return runWithTrace({ requestId: request.id }, done);
    // Before the framework looks at the body, whose rules by method it has of its own.
    const methods = allowed(request.url);
    if (methods.length > 0) reply.header('allow', methods.join(', '));
    sendError(unknownRoute(request.method, methods), request, reply);
  });
  // Reading a body leaves the trace: its events come from the socket.
  app.addHook('preValidation', (request, _reply, done) => runWithTrace({ requestId: request.id }, done));
  app.setErrorHandler((error, request, reply) => sendError(error, request, reply));
  await app.register(websocket, { options: { maxPayload: maxFrameBytes, perMessageDeflate: false } });
  await app.register(multipart, {
    limits: {
      fileSize: fileLimits.maxUploadBytes,
      files: 1,
      fields: 2,
      parts: 3,
      fieldSize: 8 * 1024,
      headerPairs: 20,
    },
  });
  await registerDocuments(app);
  registerRoutes(app, deps, {
    table: healthRoutes,
    handlers: {
      health: async () => {
        await deps.database.readTime();
        const answer: Health = { status: 'ok', version: apiVersion };
        return answer;
      },
    },
  });
  return app;
}

/** Counts a request that no route of a table counts. False when it is one too many, and answered. */
function countPage({ rateLimits }: ApiDeps, request: FastifyRequest, reply: FastifyReply): boolean {
  if (!rateLimits || isTableRoute(request)) return true;
  try {
    const allowance = rateLimits.takePage(request.ip);
    if (allowance) reply.headers(rateLimitHeaders(allowance));
    return true;
  } catch (error) {
    if (error instanceof RateLimited) reply.headers(rateLimitHeaders(error.allowance));
    sendError(error, request, reply);
    return false;
  }
}

/** Parses bodies within bounds. A POST whose body may be left out may still say that it is JSON. */
function parseJson(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    const text = body as string;
    if (text === '') return done(null, undefined);
    try {
      checkJsonBounds(text);
    } catch (error) {
      return done(error as Error);
    }
    void parse(request, text, done);
  });
}

/** Answers bytes that are not HTTP, or too many or too slow headers, in our error shape, and hangs up. */
function refuseConnection(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const isHeaderOverflow = error.code === 'HPE_HEADER_OVERFLOW';
  const isSlow = error.code === 'ERR_HTTP_REQUEST_TIMEOUT';
  const status = isHeaderOverflow
    ? '431 Request Header Fields Too Large'
    : isSlow
      ? '408 Request Timeout'
      : '400 Bad Request';
  const message = isHeaderOverflow
    ? 'the headers are too large'
    : isSlow
      ? 'the request took too long'
      : 'this is not a valid HTTP request';
  const body = JSON.stringify(errorBody(new AppError('invalid_request', message), newRequestId()));
  socket.end(
    `HTTP/1.1 ${status}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  );
}
