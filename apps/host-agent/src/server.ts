import http2 from 'node:http2';
import { AppError } from '@aviary/core';
import { HostAgent } from '@aviary/proto/hostagent';
import { fromNodeError, type Logger, readTraceHeaders, runWithTrace } from '@aviary/service-kit';
import { toConnectError } from '@aviary/service-kit/connect-errors';
import type { ConnectRouter, Interceptor } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import { fileRoutes } from './routes/file-routes.ts';
import { guestRoutes } from './routes/guest-routes.ts';
import { sandboxRoutes } from './routes/sandbox-routes.ts';
import type { SandboxServices } from './sandboxes/sandbox-services.ts';

/** Checks that a call comes from this host's control plane, now. Throws `unauthorized` or `stale_epoch`. */
export type CallerCheck = (headers: Headers) => Promise<void>;

export interface ServerDeps {
  services: SandboxServices;
  checkCaller: CallerCheck;
  logger: Logger;
}

/** The RPC server of `hostagent.v1`, HTTP/2 without TLS: listen on loopback only. */
export function createServer({ services, checkCaller, logger }: ServerDeps): http2.Http2Server {
  const authenticate: Interceptor = (next) => async (request) => {
    await checkCaller(request.header);
    return next(request);
  };
  const translateErrors: Interceptor = (next) => async (request) => {
    try {
      const response = await next(request);
      if (!response.stream) return response;
      return { ...response, message: translateStream(response.message) };
    } catch (error) {
      logIfInternal(logger, request.method.name, error);
      throw toConnectError(fromNodeError(error));
    }
  };
  const handler = connectNodeAdapter({
    routes: (router: ConnectRouter) =>
      router.service(HostAgent, { ...sandboxRoutes(services), ...guestRoutes(services), ...fileRoutes(services) }),
    interceptors: [translateErrors, authenticate],
    readMaxBytes: 16 * 1024 * 1024,
    // A client that leaves cancels nothing that it started: handlers of commands do not look at the request's signal.
  });
  return http2.createServer({ maxSessionMemory: 64 }, (request, response) =>
    runWithTrace(readTraceHeaders({ get: (name) => request.headers[name]?.toString() ?? null }), () =>
      handler(request, response),
    ),
  );
}

async function* translateStream<T>(messages: AsyncIterable<T>): AsyncIterable<T> {
  try {
    yield* messages;
  } catch (error) {
    throw toConnectError(fromNodeError(error));
  }
}

function logIfInternal(logger: Logger, method: string, error: unknown): void {
  const level = error instanceof AppError && error.code !== 'internal' ? 'info' : 'error';
  logger[level]({ method, err: error }, 'call failed');
}
