import { setTimeout as pause } from 'node:timers/promises';
import { parseId } from '@aviary/core';
import { migrate, openDatabase } from '@aviary/database';
import { startTestPostgres } from '@aviary/testing';
import { expect, test } from 'vitest';

import { type Reply, startTestPlatform, type TestPlatform } from './test-platform.ts';
import { sumSandboxTraces } from './test-traces-store.ts';

/** What one who uses the platform does again and again; all that was answered goes to `replies`. */
async function useUntil(platform: TestPlatform, signal: AbortSignal, replies: Reply[]): Promise<void> {
  const note = (reply: Reply) => {
    replies.push(reply);
    return reply;
  };
  while (!signal.aborted) {
    const created = note(await platform.call('POST', '/v1/sandboxes'));
    note(await platform.call('GET', '/v1/sandboxes?limit=5'));
    if (created.status !== 202) await pause(10);
    else note(await platform.call('GET', `/v1/sandboxes/${created.body.id}`));
  }
}

test('a database that is killed and started again under load is told as 503, and nothing is half done', async () => {
  await using server = await startTestPostgres();
  await using database = await openDatabase({ url: await server.createDatabase() });
  await migrate(database);
  await using platform = await startTestPlatform({
    database,
    overrides: { runner: { leaseTtlMs: 2_000, pollMs: 200 } },
  });
  const stop = new AbortController();
  const replies: Reply[] = [];
  const used = Promise.all(Array.from({ length: 6 }, () => useUntil(platform, stop.signal, replies)));
  await using _users = {
    async [Symbol.asyncDispose]() {
      stop.abort();
      await used;
    },
  };
  const works = () =>
    expect
      .poll(async () => (await platform.call('GET', '/health')).status, { timeout: 20_000, interval: 20 })
      .toBe(200);
  const answers = async (isMeant: (reply: Reply) => boolean, count: number) => {
    const before = replies.length;
    await expect.poll(() => replies.slice(before).filter(isMeant).length, { timeout: 20_000 }).toBeGreaterThan(count);
  };
  const underLoad = () => answers(({ status }) => status === 202, 20);
  for (let round = 0; round < 3; round++) {
    await works();
    await underLoad();
    await server.kill();
    const health = await platform.call('GET', '/health');
    expect([health.status, health.body.error.code, health.headers.get('retry-after')]).toEqual([
      503,
      'unavailable',
      '1',
    ]);
    await answers(({ status }) => status === 503, 6);
    await server.restart();
  }
  await works();
  await underLoad();
  stop.abort();
  await used;

  const refused = replies.filter(({ status }) => status >= 300);
  expect(refused.length).toBeGreaterThan(0);
  for (const { status, headers, body } of refused) {
    expect([status, body.error.code]).toEqual([503, 'unavailable']);
    expect(headers.get('retry-after')).toMatch(/^\d+$/);
  }
  // By itself: what was under way goes on to its end, and who waits for a new one is woken.
  const traces = () => sumSandboxTraces(database.db);
  await expect.poll(async () => (await traces()).filter(({ running }) => running > 0), { timeout: 30_000 }).toEqual([]);
  const startedAt = performance.now();
  expect((await platform.call('POST', '/v1/sandboxes', { headers: { prefer: 'wait=20' } })).status).toBe(201);
  expect(performance.now() - startedAt).toBeLessThan(4_000);

  const kept = await traces();
  for (const { rows, creates, audits, events, failed } of kept)
    expect({ rows, creates, audits, events, failed }).toEqual({ rows: 1, creates: 1, audits: 1, events: 1, failed: 0 });
  const keptIds = new Set(kept.map(({ id }) => id));
  const accepted = replies.filter(({ status }) => status === 202);
  expect(accepted.filter(({ body }) => !keptIds.has(parseId('sandbox', body.id)))).toEqual([]);
});
