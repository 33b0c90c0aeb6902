import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { AppError } from '@aviary/core';
import { readTraceHeaders, runWithTrace } from '@aviary/service-kit/trace';
import type { AccessTokens } from './access/access-tokens.ts';
import { refuseSignature } from './access/file-signature.ts';
import type { FileAccess } from './files/file-access.ts';
import { readJsonObject, sendEmpty, sendError, sendJson } from './http-response.ts';
import { parseInitRequest } from './lifecycle/init-request.ts';
import { freezeGuest, initializeGuest, type LifecycleDeps, thawGuest } from './lifecycle/lifecycle.ts';
import type { MetricsReader } from './metrics/read-metrics.ts';
import type { SandboxSettings } from './sandbox-settings.ts';
import type { GuestUser, UserDatabase } from './users/user-database.ts';

export type RpcHandler = (request: IncomingMessage, response: ServerResponse) => void;

export interface HttpServerDeps {
  tokens: AccessTokens;
  users: UserDatabase;
  files: FileAccess;
  settings: SandboxSettings;
  lifecycle: LifecycleDeps;
  metrics: MetricsReader;
  /** The Connect services. A promise: the server answers `/health` before they are loaded. */
  rpc: () => Promise<RpcHandler>;
}

type Route = (request: IncomingMessage, response: ServerResponse, url: URL) => Promise<void> | void;

const agentVersion = '0.1.0';
/** The version whose features E2B's SDKs may use with this agent. */
const envdVersion = '0.6.13';
const maxInitBytes = 1024 * 1024;
/** Proxies in front keep idle connections for less than this, so it is never the agent that closes first. */
const keepAliveTimeoutMs = 640_000;
/** The longest timer there is; a deadline beyond is none. */
const maxTimerMs = 2 ** 31 - 1;

/** The agent's HTTP server (reference e2b-wire 2.3 and 2.4, and the host's internal routes). Not listening yet. */
export function createHttpServer(deps: HttpServerDeps): Server {
  const routes = publicRoutes(deps);
  const internal = internalRoutes(deps);
  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const url = parseUrl(request);
    const name = `${request.method === 'HEAD' ? 'GET' : request.method} ${url.pathname}`;
    if (name === 'GET /health') return sendEmpty(response);
    if (name === 'GET /proof') {
      response.setHeader('x-aviary-proof', deps.tokens.prove(parseNonce(url)));
      return sendEmpty(response);
    }
    const access = deps.tokens.check({
      hostToken: header(request, 'x-aviary-host-token'),
      accessToken: header(request, 'x-access-token'),
    });
    const internalRoute = internal[name];
    if (internalRoute) {
      if (access !== 'host') throw new AppError('unauthorized', 'this route needs the host token');
      return internalRoute(request, response, url);
    }
    response.setHeader('access-control-allow-origin', '*');
    response.setHeader('access-control-expose-headers', '*');
    if (request.method === 'OPTIONS') return answerPreflight(response);
    const isRpc = /^\/(?:process\.Process|filesystem\.Filesystem|guestagent\.v1\.Commands)\//.test(url.pathname);
    if (access === 'none' && url.pathname !== '/files') {
      const refused = 'X-Access-Token is missing or wrong; send the sandbox access token';
      if (isRpc) return sendJson(response, 401, { code: 'unauthenticated', message: refused });
      throw new AppError('unauthorized', refused);
    }
    if (access === 'none') checkSignature(request, url, deps);
    if (isRpc) {
      if (Number(header(request, 'connect-timeout-ms')) > maxTimerMs) delete request.headers['connect-timeout-ms'];
      return (await deps.rpc())(request, response);
    }
    const route = routes[name];
    if (!route) throw new AppError('not_found', `there is no route ${request.method} ${url.pathname}`);
    return route(request, response, url);
  };
  const server = createServer({ keepAliveTimeout: keepAliveTimeoutMs, requestTimeout: 0 }, (request, response) => {
    void runWithTrace(readTraceHeaders({ get: (name) => header(request, name) ?? null }), () =>
      handle(request, response).catch((error: unknown) => sendError(response, error)),
    );
  });
  server.on('clientError', (_error, socket) => {
    if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n');
    else socket.destroy();
  });
  return server;
}

function publicRoutes({ users, files, settings, metrics }: HttpServerDeps): Record<string, Route> {
  const resolveUser = (name: string | undefined): GuestUser => users.user(name || settings.defaultUser);
  return {
    'GET /files': async (request, response, url) => {
      const path = url.searchParams.get('path');
      if (!path) throw new AppError('invalid_request', 'name the file in the `path` parameter');
      const user = resolveUser(url.searchParams.get('username') ?? undefined);
      const { downloadFile } = await import('./files/download.ts');
      await downloadFile(files, { path, user }, { request, response });
    },
    'POST /files': async (request, response, url) => {
      const user = resolveUser(url.searchParams.get('username') ?? undefined);
      const path = url.searchParams.get('path') || undefined;
      const { uploadFiles } = await import('./files/upload.ts');
      await uploadFiles(files, { path, user }, { request, response });
    },
    'POST /files/compose': async (request, response) => {
      const { composeFiles } = await import('./files/compose-files.ts');
      await composeFiles(files, resolveUser, { request, response });
    },
    'GET /metrics': async (_request, response) => sendJson(response, 200, await metrics.read(Date.now())),
    'GET /envs': (_request, response) => sendJson(response, 200, settings.envVars),
    'GET /version': (_request, response) => sendJson(response, 200, { version: agentVersion, envdVersion }),
  };
}

function internalRoutes({ lifecycle }: HttpServerDeps): Record<string, Route> {
  return {
    'POST /init': async (request, response) => {
      const init = parseInitRequest(await readJsonObject(request, maxInitBytes));
      const { remoteAddress = '', remotePort = 0 } = request.socket;
      const peer = { address: remoteAddress.replace(/^::ffff:/, ''), port: remotePort };
      const skipped = initializeGuest(init, peer, lifecycle);
      if (skipped.length > 0) response.setHeader('x-aviary-skipped', skipped.join('; '));
      sendEmpty(response);
    },
    'POST /freeze': async (_request, response) => {
      await freezeGuest(lifecycle);
      sendEmpty(response);
    },
    'POST /thaw': async (request, response) => {
      const { timestampMs } = await readJsonObject(request, maxInitBytes);
      thawGuest(
        lifecycle,
        typeof timestampMs === 'number' && Number.isSafeInteger(timestampMs) ? timestampMs : undefined,
      );
      sendEmpty(response);
    },
  };
}

/** A file URL that carries no token is good when it is signed with it. Throws `unauthorized`. */
function checkSignature(request: IncomingMessage, url: URL, { tokens }: HttpServerDeps): void {
  const signature = url.searchParams.get('signature');
  const { accessToken } = tokens;
  if (signature === null || accessToken === undefined) {
    throw new AppError(
      'unauthorized',
      'X-Access-Token is missing or wrong; send the sandbox access token or a signed URL',
    );
  }
  const refusal = refuseSignature(
    {
      path: url.searchParams.get('path') ?? '',
      operation: request.method === 'POST' ? 'write' : 'read',
      username: url.searchParams.get('username') ?? '',
      signature,
      expiration: url.searchParams.get('signature_expiration') ?? undefined,
    },
    accessToken,
    Date.now(),
  );
  if (refusal !== undefined) throw new AppError('unauthorized', refusal);
}

function answerPreflight(response: ServerResponse): void {
  response.writeHead(204, {
    'access-control-allow-methods': 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS',
    'access-control-allow-headers': '*, Authorization',
    'access-control-max-age': '7200',
  });
  response.end();
}

function parseNonce(url: URL): string {
  const nonce = url.searchParams.get('nonce') ?? '';
  if (!/^[0-9a-f]{64}$/.test(nonce)) throw new AppError('invalid_request', 'nonce must be 64 hexadecimal digits');
  return nonce;
}

function parseUrl(request: IncomingMessage): URL {
  try {
    return new URL(request.url ?? '/', 'http://guest');
  } catch {
    throw new AppError('invalid_request', 'the request target is not a URL');
  }
}

function header(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name];
  return typeof value === 'string' ? value : undefined;
}
