import { once } from 'node:events';
import { createServer, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';

/** A host whose agent is asked and does not answer before it is told to: what was accepted stays accepted, and its work not begun. */
export interface HeldHost extends AsyncDisposable {
  /** `127.0.0.1:PORT` */
  address: string;
  /** Refuses all that it was asked so far. */
  refuseAll(): void;
}

export async function startHeldHost(): Promise<HeldHost> {
  const held = new Set<ServerHttp2Stream>();
  const server = createServer();
  server.on('stream', (stream) => {
    held.add(stream);
    stream.resume();
    stream.on('error', () => undefined).on('close', () => held.delete(stream));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    refuseAll() {
      for (const stream of held) {
        stream.respond({ ':status': 400, 'content-type': 'application/json' });
        stream.end(JSON.stringify({ code: 'invalid_argument', message: 'held, and refused in the end' }));
      }
      held.clear();
    },
    async [Symbol.asyncDispose]() {
      for (const stream of held) stream.destroy();
      server.close();
    },
  };
}
