import { AppError, newId, platformTeamId } from '@aviary/core';
import { type Database, migrate, openDatabase } from '@aviary/database';
import { silentLogger } from '@aviary/service-kit';
import { VirtualClock } from '@aviary/service-kit/virtual-clock';
import { sql } from 'kysely';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { IdempotencyKeys } from './idempotency-keys.ts';
import { hashRequest } from './key-store.ts';

let database: Database;
beforeAll(async () => {
  database = await openDatabase({});
  await migrate(database);
});
afterAll(() => database[Symbol.asyncDispose]());

const replica = () =>
  new IdempotencyKeys({ database, clock: new VirtualClock(), logger: silentLogger, replicaId: newId('host') });
const keyed = (key: string) => ({ teamId: platformTeamId, key, requestHash: hashRequest('POST', '/x', {}) });
const work = (body: unknown) => async () => ({ status: 200, body });
/** Lets a minute pass in the store for the leases that are held. */
const expire = () =>
  sql`UPDATE idempotency_keys SET lease_until = lease_until - interval '61 seconds' WHERE response_status IS NULL`.execute(
    database.db,
  );

test('a key whose replica died is free when its lease ends, and the late answer of the dead one is not kept', async () => {
  const [dead, alive] = [replica(), replica()];
  const hung = Promise.withResolvers<string>();
  const first = dead.runOnce(keyed('left'), async () => ({ status: 200, body: await hung.promise }));
  await expect.poll(async () => alive.runOnce(keyed('left'), work('no')).catch((error) => error.code)).toBe('conflict');
  await expire();
  expect(await alive.runOnce(keyed('left'), work('done'))).toEqual({ status: 200, body: 'done', isReplay: false });
  hung.resolve('too late');
  await first;
  expect(await alive.runOnce(keyed('left'), work('again'))).toEqual({ status: 200, body: 'done', isReplay: true });
});

test('a request that takes long keeps its key as long as its replica lives', async () => {
  const [busy, other] = [replica(), replica()];
  const slow = Promise.withResolvers<string>();
  const first = busy.runOnce(keyed('slow'), async () => ({ status: 200, body: await slow.promise }));
  await expect.poll(async () => other.runOnce(keyed('slow'), work('no')).catch((error) => error.code)).toBe('conflict');
  await expire();
  await busy.renewOnce();
  await expect(other.runOnce(keyed('slow'), work('no'))).rejects.toMatchObject({ code: 'conflict' });
  slow.resolve('done');
  expect(await first).toEqual({ status: 200, body: 'done', isReplay: false });
});

test('an answer that is too large to keep is not made twice', async () => {
  const keys = replica();
  await keys.runOnce(keyed('large'), work('x'.repeat(2 * 1024 * 1024)));
  await expire();
  await expect(keys.runOnce(keyed('large'), work('again'))).rejects.toMatchObject({
    code: 'conflict',
    message: expect.stringContaining('too large'),
  });
});

test.each([
  ['text with a NUL', { stdout: 'a\0b' }],
  ['half a surrogate pair', { cmd: '\ud800' }],
  ['text alone', 'done'],
  ['nothing', null],
])('an answer of %s is kept for repeats', async (what, body) => {
  const keys = replica();
  expect(await keys.runOnce(keyed(what), work(body))).toEqual({ status: 200, body, isReplay: false });
  expect(await keys.runOnce(keyed(what), work('again'))).toEqual({ status: 200, body, isReplay: true });
});

test('an answer that an older version kept is given', async () => {
  const keys = replica();
  await keys.runOnce(keyed('older'), work({ a: 1 }));
  await sql`UPDATE idempotency_keys SET response_body = '{"a":1}' WHERE key = 'older'`.execute(database.db);
  expect(await keys.runOnce(keyed('older'), work('again'))).toEqual({ status: 200, body: { a: 1 }, isReplay: true });
});

test('a request fails for its own reason, although its key cannot be given back', async () => {
  const failing = await openDatabase({});
  await migrate(failing);
  const keys = new IdempotencyKeys({
    database: failing,
    clock: new VirtualClock(),
    logger: silentLogger,
    replicaId: newId('host'),
  });
  const refused = keys.runOnce(keyed('lost'), async () => {
    await failing[Symbol.asyncDispose]();
    throw new AppError('guest_unavailable', 'the guest does not answer');
  });
  await expect(refused).rejects.toMatchObject({ code: 'guest_unavailable' });
});
