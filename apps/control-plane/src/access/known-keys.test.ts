import { newId, parseId } from '@aviary/core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ControlPlane } from '../start.ts';
import { startTestPlatform, type TestPerson, type TestPlatform } from '../test-platform.ts';

let platform: TestPlatform;
let replica: ControlPlane;
beforeAll(async () => {
  platform = await startTestPlatform();
  replica = await platform.startReplica();
});
afterAll(() => platform?.[Symbol.asyncDispose]());

/** A team of its own with a sandbox, and a key that both replicas have seen. */
async function makeKnownKey() {
  const owner = await platform.signIn();
  const { id } = (await owner.call('POST', '/v1/sandboxes', { headers: { prefer: 'wait=20' } })).body;
  const { id: keyId, key } = (await owner.call('POST', '/v1/api-keys', { body: { name: 'known' } })).body;
  const path = `/v1/sandboxes/${id}`;
  const here = () => platform.call('GET', path, { key });
  const there = async () => (await fetch(`${replica.url}${path}`, { headers: { 'x-api-key': key } })).status;
  for (const _ of [1, 2]) expect([(await here()).status, await there()]).toEqual([200, 200]);
  return { owner, sandboxId: id, keyId, key, statuses: async () => [(await here()).status, await there()] };
}

const db = () => platform.database.db;

const ends: Record<string, (key: { owner: TestPerson; keyId: string }) => Promise<unknown>> = {
  revoked: async ({ owner, keyId }) => expect((await owner.call('DELETE', `/v1/api-keys/${keyId}`)).status).toBe(204),
  expired: ({ keyId }) =>
    db()
      .updateTable('api_keys')
      .set({ expires_at: new Date(Date.now() - 1) })
      .where('id', '=', parseId('apiKey', keyId))
      .execute(),
  "its team's that is deleted": ({ owner }) =>
    db().updateTable('teams').set({ deleted_at: new Date() }).where('id', '=', owner.teamId).execute(),
};

test.each(Object.entries(ends))(
  'a key that was good a moment ago and is %s has no effect on the next request to any replica',
  async (_how, end) => {
    const known = await makeKnownKey();
    await end(known);
    expect(await known.statuses()).toEqual([401, 401]);
  },
);

test("a known key reads its own team's sandboxes, and nobody else's", async () => {
  const known = await makeKnownKey();
  const other = await makeKnownKey();
  const get = async (id: string) => {
    const { status, body } = await platform.call('GET', `/v1/sandboxes/${id}`, { key: known.key });
    return { status, code: body.error?.code };
  };
  const missing = `sb-${newId('sandbox')}`;
  // All at once, so that they are read together.
  expect(await Promise.all([known.sandboxId, other.sandboxId, missing, known.sandboxId].map(get))).toEqual([
    { status: 200, code: undefined },
    { status: 404, code: 'not_found' },
    { status: 404, code: 'not_found' },
    { status: 200, code: undefined },
  ]);
});

test('what a known key may not do it may not do, and its use is noted', async () => {
  const owner = await platform.signIn();
  const { key, id } = (await owner.call('POST', '/v1/api-keys', { body: { name: 'narrow', scopes: ['templates'] } }))
    .body;
  const path = `/v1/sandboxes/sb-${newId('sandbox')}`;
  for (const _ of [1, 2]) expect((await platform.call('GET', path, { key })).status).toBe(403);
  const known = await makeKnownKey();
  await platform.controlPlane.context.keyUses.flush();
  await db().updateTable('api_keys').set({ last_used_at: null }).execute();
  await known.statuses();
  await platform.controlPlane.context.keyUses.flush();
  const { items } = (await known.owner.call('GET', '/v1/api-keys')).body;
  expect(items[0].last_used_at).not.toBeNull();
  expect(id).not.toBe(known.keyId);
});
