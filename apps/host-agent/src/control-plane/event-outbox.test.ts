import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { newId } from '@aviary/core';
import { silentLogger, systemClock } from '@aviary/service-kit';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { EventOutbox } from './event-outbox.ts';

let directory: string;
/** The host's clock, which goes as it likes. */
let now: number;
const subject = { sandboxId: newId('sandbox'), run: 3 };

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'aviary-outbox-'));
  now = 1_000_000;
});
afterEach(() => rm(directory, { recursive: true }));

async function open(): Promise<EventOutbox> {
  const outbox = new EventOutbox({ directory, clock: { ...systemClock, now: () => now }, logger: silentLogger });
  await outbox.open();
  return outbox;
}

test('events go out in the order in which they happened, with their run, though the clock goes back', async () => {
  const outbox = await open();
  await outbox.push('sandbox.started', subject);
  now -= 600_000;
  await outbox.push('sandbox.error', subject, { reason: 'gone' });
  expect(await outbox.pending()).toMatchObject([
    { event: 'sandbox.started', run: 3, sequence: 1 },
    { event: 'sandbox.error', run: 3, sequence: 2, reason: 'gone' },
  ]);
});

test('numbers are given once, in order, to many that push at the same time', async () => {
  const outbox = await open();
  await Promise.all(Array.from({ length: 20 }, () => outbox.push('sandbox.started', subject)));
  expect((await outbox.pending()).map(({ sequence }) => sequence)).toEqual(
    Array.from({ length: 20 }, (_, at) => at + 1),
  );
  expect(outbox.sequence).toBe(20);
});

test('numbers go on after a restart, whether events were acknowledged or not', async () => {
  const first = await open();
  await first.push('sandbox.started', subject);
  await first.push('sandbox.paused', subject);
  await first.acknowledge(await first.pending());
  expect(await first.pending()).toEqual([]);
  const second = await open();
  expect(second.sequence).toBe(2);
  await second.push('sandbox.resumed', subject);
  const third = await open();
  expect(third.sequence).toBe(3);
  expect(await third.pending()).toMatchObject([{ event: 'sandbox.resumed', sequence: 3 }]);
});

test('an event that could not be written takes no number', async () => {
  const outbox = await open();
  await rm(directory, { recursive: true });
  await expect(outbox.push('sandbox.started', subject)).rejects.toThrow('ENOENT');
  expect(outbox.sequence).toBe(0);
  await outbox.open();
  await outbox.push('sandbox.started', subject);
  expect(outbox.sequence).toBe(1);
});

test('what a crash left after an acknowledgement is not sent again, and what is no event is removed', async () => {
  const outbox = await open();
  await outbox.push('sandbox.started', subject);
  const batch = await outbox.pending();
  await outbox.acknowledge(batch);
  await writeFile(path.join(directory, '0000000000000001.json'), JSON.stringify(batch[0]));
  await writeFile(path.join(directory, '0000000000000002.json.tmp-1-x'), '{');
  const next = await open();
  expect(await next.pending()).toEqual([]);
  expect(await readdir(directory)).toEqual(['acknowledged']);
});

test('a push between a look and the wait for one is not waited for, nor is anything once the agent stops', async () => {
  const outbox = await open();
  const never = new AbortController().signal;
  expect(await outbox.pending()).toEqual([]);
  await outbox.push('sandbox.started', subject);
  await outbox.waitForPush(600_000, never);
  expect(await outbox.pending()).toHaveLength(1);
  await outbox.waitForPush(600_000, AbortSignal.abort());
  const woken = outbox.waitForPush(600_000, never);
  await outbox.push('sandbox.paused', subject);
  await woken;
});
