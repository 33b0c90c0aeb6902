import { createHash, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { errorText } from '@aviary/core';
import { withDeadline } from './deadline.ts';
import type { Logger } from './logger.ts';
import { isLoopback, type MetricsSettings } from './metrics-settings.ts';

/** Prometheus' text format. */
const contentType = 'text/plain; version=0.0.4; charset=utf-8';
const maxConnections = 16;
const readTimeoutMs = 8_000;
const requestTimeoutMs = 10_000;

export interface MetricsServer extends AsyncDisposable {
  /** Where it listens, e.g. `http://127.0.0.1:9464/metrics`. */
  url: string;
}

/**
 * Answers `GET /metrics` at an address of its own with what `read` tells in Prometheus' text format. Requests that come together share
 * one reading.
 */
export async function serveMetrics(
  { logger, read }: { logger: Logger; read: () => Promise<string> },
  settings: MetricsSettings,
): Promise<MetricsServer> {
  let underWay: Promise<string> | undefined;
  const readOnce = () => {
    underWay ??= withDeadline({ what: 'reading the metrics', timeoutMs: readTimeoutMs }, read).finally(() => {
      underWay = undefined;
    });
    return underWay;
  };
  const server = createServer({ maxHeaderSize: 8 * 1024, requestTimeout: requestTimeoutMs }, (request, response) => {
    const refusal = refuse(request, settings);
    if (refusal) return answer(response, refusal);
    readOnce().then(
      (body) => answer(response, { status: 200, body }),
      (error: unknown) => {
        logger.warn({ error: errorText(error) }, 'cannot read the metrics');
        answer(response, { status: 503, body: 'the metrics cannot be read now; the log says why\n' });
      },
    );
  });
  server.maxConnections = maxConnections;
  await listen(server, settings);
  const { port } = server.address() as AddressInfo;
  const host = settings.host.includes(':') ? `[${settings.host}]` : settings.host;
  return { url: `http://${host}:${port}/metrics`, [Symbol.asyncDispose]: () => close(server) };
}

interface Reply {
  status: number;
  body: string;
  headers?: Record<string, string>;
}

/** Why a request is not answered; undefined when it is. */
function refuse({ method, url = '', headers }: IncomingMessage, { token }: MetricsSettings): Reply | undefined {
  if (url.split('?', 1)[0] !== '/metrics') return { status: 404, body: 'there is only /metrics here\n' };
  if (method !== 'GET') return { status: 405, body: 'use GET\n', headers: { allow: 'GET' } };
  if (token === undefined) {
    // A page in a browser of this machine may have a name of its own lead here.
    const asked = URL.parse(`http://${headers.host}`)?.hostname.replaceAll(/[[\]]/g, '') ?? '';
    return isLoopback(asked) ? undefined : { status: 403, body: 'ask by the address that this listens at\n' };
  }
  if (isSame(headers.authorization ?? '', `Bearer ${token}`)) return undefined;
  return { status: 401, body: 'this needs the token of the settings\n', headers: { 'www-authenticate': 'Bearer' } };
}

/** Takes the same time whatever differs, the length included. */
function isSame(left: string, right: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(left), digest(right));
}

function answer(response: ServerResponse, { status, body, headers = {} }: Reply): void {
  response
    .writeHead(status, {
      'content-type': status === 200 ? contentType : 'text/plain; charset=utf-8',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      ...headers,
    })
    .end(body);
}

function listen(server: Server, { host, port }: MetricsSettings): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
