import http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { withDeadline } from '@aviary/service-kit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const server = http2.createServer((_request, response) => {
  response.end('ok');
});
let url: string;

beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

afterAll(() => {
  server.close();
});

/** A caller whose calls come just when the idle timer closes their session; in a thread of its own, as one that spins answers nothing. */
const caller = `
  const { parentPort, workerData } = require('node:worker_threads');
  const { url, modulePath, callers, rounds } = workerData;
  const idleMs = 24;
  async function call(sessions) {
    const stream = await sessions.request('GET', '/', {}, {});
    stream.resume();
    await new Promise((resolve, reject) => stream.on('close', resolve).on('error', reject));
  }
  async function run(HostSessions, seed) {
    // Verifying begins at a third of the idle time, so that a call waits for a PING while the idle timer runs out.
    const sessions = new HostSessions(url, { pingIntervalMs: idleMs / 3, idleConnectionTimeoutMs: idleMs });
    for (let round = 0; round < rounds; round++) {
      await new Promise((resolve) => setTimeout(resolve, idleMs - 2 + ((round + seed) % 4)));
      await Promise.all([call(sessions), call(sessions)]);
    }
    sessions.abort();
  }
  import(modulePath).then(async ({ HostSessions }) => {
    await Promise.all(Array.from({ length: callers }, (_, seed) => run(HostSessions, seed)));
    parentPort.postMessage('done');
  });`;

describe('sessions to a host', () => {
  it('go on when their idle timer meets a call, thousands of times', async () => {
    const workerData = { url, modulePath: path.join(import.meta.dirname, 'host-sessions.ts'), callers: 40, rounds: 75 };
    const worker = new Worker(caller, { eval: true, workerData });
    try {
      const finished = new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
      const done = withDeadline({ what: 'the last call', timeoutMs: 60_000 }, () => finished);
      expect(await done).toBe('done');
    } finally {
      await worker.terminate();
    }
  }, 70_000);
});
