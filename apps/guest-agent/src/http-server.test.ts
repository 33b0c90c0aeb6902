import { createHash } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { expect, test, vi } from 'vitest';
import { AccessTokens } from './access/access-tokens.ts';
import { createHttpServer, type HttpServerDeps } from './http-server.ts';

test('an error of our own is logged with the ids of the request that met it', async () => {
  const lines: string[] = [];
  const spy = vi.spyOn(console, 'error').mockImplementation((line: string) => void lines.push(line));
  const tokens = new AccessTokens(createHash('sha256').update('secret').digest('hex'));
  const metrics = { read: () => Promise.reject(new Error('no meter')) };
  const server = createHttpServer({ tokens, metrics } as unknown as HttpServerDeps).listen(0, '127.0.0.1');
  try {
    await once(server, 'listening');
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`;
    const ask = (headers: Record<string, string>) =>
      fetch(url, { headers: { 'x-aviary-host-token': 'secret', ...headers } }).then(({ status }) => status);
    const traced = { 'x-aviary-request-id': 'req-7', 'x-aviary-operation-id': '0190' };
    expect([await ask(traced), await ask({})]).toEqual([500, 500]);
    expect(lines).toEqual(['internal error requestId=req-7 operationId=0190: no meter', 'internal error: no meter']);
  } finally {
    spy.mockRestore();
    server.close();
  }
});
