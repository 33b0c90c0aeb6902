import { describeStores } from '@aviary/testing';
import { afterEach, expect, test } from 'vitest';
import { startTestPlatform, type TestPerson, type TestPlatform } from '../test-platform.ts';

const wait = { headers: { prefer: 'wait=20' } };
const none = { sandboxes: null, vcpus: null, memory_mb: null, disk_size_mb: null, templates: null };

describeStores('quotas', (open) => {
  let platform: TestPlatform;
  let admin: TestPerson;
  let path: string;
  afterEach(() => platform?.[Symbol.asyncDispose]());
  const start = async (limits: Partial<Record<keyof typeof none, number>>) => {
    platform = await startTestPlatform({ database: await open() });
    admin = await platform.signIn({ isAdmin: true });
    path = `/v1/admin/teams/team-${platform.teamId}/quota`;
    expect((await admin.call('PUT', path, { body: { ...none, ...limits } })).status).toBe(200);
  };
  const used = async () => (await platform.call('GET', `/v1/teams/team-${platform.teamId}/quota`)).body.used;

  test('the last of five places goes to one of twenty', async () => {
    await start({ sandboxes: 5 });
    const replies = await Promise.all(Array.from({ length: 20 }, () => platform.call('POST', '/v1/sandboxes')));
    expect(replies.filter(({ status }) => status === 202)).toHaveLength(5);
    const refused = replies.filter(({ status }) => status === 429);
    expect(refused).toHaveLength(15);
    for (const { body, headers } of refused) {
      expect(body.error).toMatchObject({ code: 'quota_exceeded', message: /^the team may have 5 sandboxes, has 5/ });
      expect(body.error.details).toEqual({ limit: 'sandboxes', allowed: 5, used: 5, asked: 1 });
      // Nothing says that asking again soon would help.
      expect(headers.get('retry-after')).toBeNull();
    }
    expect((await used()).sandboxes).toBe(5);
  });

  test('paused sandboxes count for places and disk, and need their memory again to go on', async () => {
    await start({ vcpus: 2, memory_mb: 1_024, disk_size_mb: 3 * 5_120 });
    const create = (body: object) => platform.call('POST', '/v1/sandboxes', { ...wait, body });
    const { id } = (await create({ vcpus: 2, memory_mb: 512 })).body;
    expect((await create({ vcpus: 1 })).body.error.details).toMatchObject({ limit: 'vcpus', used: 2, asked: 1 });
    expect((await platform.call('POST', `/v1/sandboxes/${id}/fork`)).body.error.details.limit).toBe('vcpus');
    await platform.call('POST', `/v1/sandboxes/${id}/pause`, wait);
    expect(await used()).toEqual({ sandboxes: 1, vcpus: 0, memory_mb: 0, disk_size_mb: 5_120, templates: 0 });
    const other = (await create({ vcpus: 1, memory_mb: 1_024 })).body;
    const resumed = await platform.call('POST', `/v1/sandboxes/${id}/resume`, wait);
    expect(resumed.body.error.details).toEqual({ limit: 'vcpus', allowed: 2, used: 1, asked: 2 });
    expect((await platform.call('GET', `/v1/sandboxes/${id}`)).body.status).toBe('paused');
    await platform.call('DELETE', `/v1/sandboxes/${other.id}`, wait);
    expect((await platform.call('POST', `/v1/sandboxes/${id}/resume`, wait)).body.status).toBe('running');
    const large = await create({ vcpus: 1, disk_size_mb: 3 * 5_120 });
    expect(large.status).toBe(429);
  });

  test('snapshots are counted, and one that replaces another needs no second place', async () => {
    await start({ templates: 1 });
    const { id } = (await platform.call('POST', '/v1/sandboxes', wait)).body;
    const snapshot = (name: string, overwrite = false) =>
      platform.call('POST', '/v1/snapshots', { ...wait, body: { sandbox_id: id, name, overwrite } });
    expect((await snapshot('one')).status).toBe(201);
    expect((await snapshot('two')).body.error.details).toEqual({ limit: 'templates', allowed: 1, used: 1, asked: 1 });
    expect((await snapshot('one', true)).status).toBe(201);
    expect((await used()).templates).toBe(1);
  });

  test('administrators set them for teams that there are, and it is told', async () => {
    await start({ sandboxes: 1 });
    const { body } = await admin.call('GET', path);
    expect(body.limits).toEqual({ ...none, sandboxes: 1 });
    const { db } = platform.database;
    const entry = await db
      .selectFrom('audit_logs')
      .select(['actor_id', 'resource_id', 'metadata'])
      .where('action', '=', 'team.set_quota')
      .executeTakeFirstOrThrow();
    expect(entry).toEqual({
      actor_id: admin.userId,
      resource_id: platform.teamId,
      metadata: { ...none, sandboxes: 1 },
    });
    const missing = '/v1/admin/teams/team-01900000-0000-7000-8000-000000000000/quota';
    expect((await admin.call('GET', missing)).status).toBe(404);
    expect((await admin.call('PUT', missing, { body: none })).status).toBe(404);
  });
});
