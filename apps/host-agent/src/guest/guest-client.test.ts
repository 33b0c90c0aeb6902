import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { AppError } from '@aviary/core';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { GuestClient } from './guest-client.ts';
import { guestProof } from './proven-agent.ts';

const port = 49_983;
/** Loopback has many addresses, and the port is always the same. */
const address = `127.${1 + (process.pid % 250)}.${Math.floor(Math.random() * 250)}.7`;
const file = { path: '/f', user: 'user' };

let handle: (request: IncomingMessage, response: ServerResponse) => void;
let guest: GuestClient;
const never = new AbortController().signal;

beforeEach(async () => {
  const server = createServer((request, response) => {
    const nonce = /^\/proof\?nonce=(.*)$/.exec(request.url ?? '')?.[1];
    if (nonce === undefined) handle(request, response);
    else response.writeHead(204, { 'X-Aviary-Proof': guestProof('host', nonce).toString('hex') }).end();
  });
  server.listen(port, address);
  await once(server, 'listening');
  guest = new GuestClient(address, { hostToken: 'host', accessToken: 'sandbox' });
  return async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
});
afterEach(() => guest[Symbol.dispose]());

async function* endless(piece = Buffer.alloc(1_000)) {
  for (;;) {
    yield piece;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => 'none',
    (error: unknown) => (error instanceof AppError ? error.code : String(error)),
  );

/** Resolves when the request that comes next is read to its end, or rejects when it breaks off. `onData` is called as it comes. */
function nextRequest(onData: () => void = () => undefined): Promise<number> {
  return new Promise((resolve, reject) => {
    handle = (request, response) => {
      let size = 0;
      request.on('data', (chunk: Buffer) => {
        size += chunk.length;
        onData();
      });
      request.on('error', reject);
      request.on('end', () => {
        resolve(size);
        response.end('[]');
      });
    };
  });
}

it('sends a file and its size', async () => {
  const received = nextRequest();
  const content = (async function* () {
    yield Buffer.alloc(70_000);
    yield Buffer.alloc(30_000);
  })();
  expect(await guest.writeFile({ ...file, content, signal: never })).toBe(100_000);
  expect(await received).toBe(100_000);
});

it('breaks an upload off when its content or its caller does, so that the guest keeps the file', async () => {
  const begun = Promise.withResolvers<void>();
  const broken = nextRequest(begun.resolve);
  const content = (async function* () {
    yield Buffer.alloc(10);
    await begun.promise;
    throw new AppError('invalid_request', 'the form is malformed');
  })();
  const ends = [broken, codeOf(guest.writeFile({ ...file, content, signal: never }))];
  expect((await Promise.allSettled(ends)).map(({ status }) => status)).toEqual(['rejected', 'fulfilled']);
  expect(await ends[1]).toBe('invalid_request');

  const left = new AbortController();
  const cut = nextRequest(() => left.abort());
  const writing = guest.writeFile({ ...file, content: endless(), signal: left.signal });
  expect((await Promise.allSettled([cut, writing])).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
});

it('tells why the guest refused a file whose content does not end', async () => {
  handle = (_request, response) => {
    response.writeHead(507, { 'x-aviary-code': 'disk_full' }).end(JSON.stringify({ code: 507, message: 'it is full' }));
  };
  const refused = guest.writeFile({ ...file, content: endless(), signal: never });
  await expect(refused).rejects.toMatchObject({ code: 'disk_full', message: 'it is full' });
});

it('takes the code that the guest names for the one that its status stands for, when it is its to name', async () => {
  const answers = [
    [409, 'invalid_state', 'invalid_state'],
    [409, 'stale_epoch', 'already_exists'],
    [409, undefined, 'already_exists'],
    [401, 'unauthorized', 'invalid_request'],
    [500, 'internal', 'guest_unavailable'],
  ] as const;
  for (const [status, named, code] of answers) {
    handle = (_request, response) => {
      response.writeHead(status, named === undefined ? {} : { 'x-aviary-code': named }).end('{"message":"no"}');
    };
    expect(await codeOf(guest.readFile({ ...file, signal: never }))).toBe(code);
  }
});

it('reads no longer than its caller waits', async () => {
  let isCut = false;
  const connected = new Promise<void>((resolve) => {
    handle = (request, response) => {
      request.on('close', () => {
        isCut = true;
      });
      expect(request.headers['te']).toBe('trailers');
      response.write('some');
      response.once('close', resolve);
    };
  });
  const left = new AbortController();
  const content = await guest.readFile({ ...file, signal: left.signal });
  const iterator = content[Symbol.asyncIterator]();
  expect(String((await iterator.next()).value)).toBe('some');
  const next = iterator.next();
  left.abort();
  await expect(next).rejects.toThrow();
  await connected;
  expect(isCut).toBe(true);
});
