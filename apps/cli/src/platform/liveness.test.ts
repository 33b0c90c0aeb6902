import http2 from 'node:http2';
import net, { type AddressInfo, type Server } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { answersHttp, answersHttp2 } from './liveness.ts';

const servers: Server[] = [];
const sockets = new Set<net.Socket>();

afterEach(() => {
  for (const socket of sockets) socket.destroy();
  for (const server of servers.splice(0)) server.close();
});

async function listen(server: Server): Promise<string> {
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const soon = () => AbortSignal.timeout(200);

describe('asking a service for life', () => {
  it('takes any answer, a refusal as well', async () => {
    const server = http2.createServer((_request, response) => {
      response.writeHead(401).end();
    });
    expect(await answersHttp2(await listen(server), AbortSignal.timeout(5_000))).toBe(true);
  });

  it('does not take a connection for an answer', async () => {
    const url = await listen(net.createServer((socket) => void sockets.add(socket.on('error', () => undefined))));
    await expect(answersHttp(url, soon())).rejects.toThrow();
    await expect(answersHttp2(url, soon())).rejects.toThrow();
  });

  it('says so when nobody listens', async () => {
    const server = net.createServer();
    const url = await listen(server);
    await new Promise((resolve) => server.close(resolve));
    await expect(answersHttp2(url, AbortSignal.timeout(5_000))).rejects.toThrow('ECONNREFUSED');
  });
});
