import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { GuestClient } from './guest-client.ts';
import { guestProof } from './proven-agent.ts';

const hostToken = 'the host token of this sandbox';
const accessToken = 'the access token of this sandbox';
const init = { accessToken: 'a new access token', hostname: 'h', machineId: 'm', envVars: {}, defaultUser: 'user' };

const open: (() => void)[] = [];
afterEach(() => {
  for (const close of open.splice(0)) close();
});

/** A guest agent that answers proofs as `prove` says, and keeps every byte that it is sent. */
async function startGuest(prove: (nonce: string) => Buffer | undefined) {
  const seen: { bytes: string; connections: number; requests: string[] } = { bytes: '', connections: 0, requests: [] };
  const server = http.createServer((request, response) => {
    seen.requests.push(`${request.method} ${request.url?.split('?')[0]}`);
    const { pathname, searchParams } = new URL(request.url ?? '', 'http://guest');
    if (pathname === '/proof') {
      const proof = prove(searchParams.get('nonce') ?? '');
      response.writeHead(204, proof ? { 'X-Aviary-Proof': proof.toString('hex') } : {}).end();
      return;
    }
    request.resume().on('end', () => response.writeHead(204).end());
  });
  server.on('connection', (socket: net.Socket) => {
    seen.connections++;
    socket.on('data', (chunk: Buffer) => {
      seen.bytes += chunk.toString('latin1');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const client = new GuestClient('127.0.0.1', { hostToken, accessToken }, { port });
  open.push(() => {
    client[Symbol.dispose]();
    server.closeAllConnections();
    server.close();
  });
  return { client, seen };
}

/** Everything that the client would say to its own guest. */
const sayAll = (client: GuestClient) =>
  Promise.allSettled([
    client.waitHealthy({ timeoutMs: 20 }),
    client.init(init, { timeoutMs: 20 }),
    client.freeze({ timeoutMs: 500 }),
    client.readFile({ path: '/secret-path', user: '', signal: new AbortController().signal }),
    client.writeFile({
      path: '/secret-path',
      user: '',
      content: (async function* () {
        yield Buffer.from('secret content');
      })(),
      signal: new AbortController().signal,
    }),
    client.filesystem.stat({ path: '/secret-path' }),
  ]);

test('a guest that proves itself is asked once for each connection', async () => {
  const { client, seen } = await startGuest((nonce) => guestProof(hostToken, nonce));
  await client.waitHealthy({ timeoutMs: 5_000 });
  await client.init(init, { timeoutMs: 5_000 });
  await client.freeze({ timeoutMs: 5_000 });
  const isProof = (request: string) => request === 'GET /proof';
  expect(seen.requests.filter((request) => !isProof(request))).toEqual(['GET /health', 'POST /init', 'POST /freeze']);
  expect(seen.requests.filter(isProof)).toHaveLength(seen.connections);
  expect(seen.bytes).toContain(hostToken);
});

test.each([
  ['gives no proof', () => undefined],
  ['knows another host’s token', (nonce: string) => guestProof('another token', nonce)],
  ['repeats a proof that its own guest gave once', () => guestProof(hostToken, 'an older nonce')],
  ['sends the nonce back', (nonce: string) => Buffer.from(nonce, 'hex')],
])('a guest that %s gets no secret, no path and no content', async (_what, prove) => {
  const { client, seen } = await startGuest(prove);
  const outcomes = await sayAll(client);
  expect(outcomes.map(({ status }) => status)).toEqual(Array.from(outcomes, () => 'rejected'));
  expect(new Set(seen.requests)).toEqual(new Set(['GET /proof']));
  for (const secret of [hostToken, accessToken, init.accessToken, 'secret']) expect(seen.bytes).not.toContain(secret);
});

test('a guest may have taken the next host token when its answer was lost: both prove it', async () => {
  const { client, seen } = await startGuest((nonce) => guestProof('next', nonce));
  await client.init(init, { timeoutMs: 5_000, hostToken: 'next' });
  expect(seen.requests).toContain('POST /init');
  client.closeConnections();
  await client.freeze({ timeoutMs: 5_000 });
});

test('one that talks without end is left', async () => {
  const server = net.createServer((socket) => {
    socket.on('error', () => undefined);
    socket.write('x'.repeat(100_000));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const client = new GuestClient('127.0.0.1', { hostToken, accessToken }, { port });
  open.push(() => {
    client[Symbol.dispose]();
    server.close();
  });
  await expect(client.freeze({ timeoutMs: 5_000 })).rejects.toThrow('the proof is longer than it may be');
});
