import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { formatId, type HostId, newId } from '@aviary/core';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import type { HostCredentials } from './credentials.ts';
import type { SandboxEvent } from './event-outbox.ts';

/** The control plane as a host agent sees it: registers one host, takes heartbeats and events, signs calls. */
export interface ControlPlaneStub extends AsyncDisposable {
  url: string;
  hostId: HostId;
  /** Events received, in order, duplicates included. */
  events: SandboxEvent[];
  /** A token that the registered host accepts. */
  signToken(overrides?: { audience?: string; expiresIn?: string; epoch?: unknown }): Promise<string>;
  /** The host's credentials as they are now. */
  credentials(): HostCredentials;
  /** Refuses the host's token until it is refreshed; the first refusals are given when there are so many of them. */
  expireToken(refusedAtOnce: number): void;
}

export async function startControlPlaneStub(): Promise<ControlPlaneStub> {
  const hostId = newId('host');
  const events: SandboxEvent[] = [];
  const { publicKey, privateKey } = await generateKeyPair('EdDSA', { crv: 'Ed25519' });
  const control_plane_public_key = await exportJWK(publicKey);
  /** How often credentials were given, and how often they must have been for their token to be taken. */
  const given = { count: 1, needed: 1 };
  let refusedAtOnce = 1;
  const refused: http.ServerResponse[] = [];
  const credentials = (): HostCredentials => ({
    host_id: formatId('host', hostId),
    token: `host-jwt-${given.count}`,
    token_expires_at: new Date(Date.now() + 7 * 86_400_000).toISOString(),
    refresh_token: `refresh-${given.count}`,
    control_plane_public_key,
    epoch: 1,
  });
  const server = http.createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8').on('data', (text: string) => {
      body += text;
    });
    request.on('end', () => {
      if (request.url === '/v1/hosts/register') {
        response.writeHead(201, { 'Content-Type': 'application/json' }).end(JSON.stringify(credentials()));
        return;
      }
      if (request.url === '/v1/hosts/auth/refresh') {
        const { refresh_token } = JSON.parse(body) as { refresh_token?: string };
        if (refresh_token !== credentials().refresh_token) {
          response.writeHead(401).end();
          return;
        }
        given.count++;
        response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(credentials()));
        return;
      }
      if (given.count < given.needed) {
        refused.push(response);
        if (refused.length >= refusedAtOnce) for (const each of refused.splice(0)) each.writeHead(401).end();
        return;
      }
      if (request.url === '/v1/hosts/sandbox-events')
        events.push(...(JSON.parse(body) as { events: SandboxEvent[] }).events);
      response.writeHead(204).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    ...{ hostId, events, credentials },
    expireToken(count) {
      given.needed = given.count + 1;
      refusedAtOnce = count;
    },
    signToken: ({ audience = hostId, expiresIn = '10m', ...claims } = {}) =>
      new SignJWT({ epoch: 1, ...claims })
        .setProtectedHeader({ alg: 'EdDSA' })
        .setIssuer('aviary')
        .setAudience(audience)
        .setIssuedAt()
        .setExpirationTime(expiresIn)
        .sign(privateKey),
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
