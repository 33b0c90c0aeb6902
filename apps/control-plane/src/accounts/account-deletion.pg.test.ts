import { formatId, parseId, type UserId } from '@aviary/core';
import { silentLogger, systemClock } from '@aviary/service-kit';
import { describeStores } from '@aviary/testing';
import { sql } from 'kysely';
import { expect, test } from 'vitest';
import { startTestPlatform, type TestPerson, type TestPlatform } from '../test-platform.ts';
import { purgeAccounts } from './purge-accounts.ts';
import { callAnonymously, logInAs, password, signUpAs } from './test-account.ts';

/** Each race is run so often, for either side to win some. */
const rounds = 8;

describeStores('an account that is deleted while', (open, kind) => {
  const teamUrl = ({ teamId }: TestPerson) => `/v1/teams/${formatId('team', teamId)}`;
  /** What is left to somebody in teams that are there. */
  const memberships = ({ database }: TestPlatform, userId: UserId) =>
    database.db
      .selectFrom('team_members')
      .innerJoin('teams', 'teams.id', 'team_members.team_id')
      .select(['teams.id', 'team_members.role'])
      .where('user_id', '=', userId)
      .where('teams.deleted_at', 'is', null)
      .execute();
  const isDeleted = async ({ database }: TestPlatform, userId: UserId) =>
    (await database.db.selectFrom('users').select('status').where('id', '=', userId).executeTakeFirstOrThrow())
      .status === 'deleted';

  test('its session refreshes, or another is opened, has no session afterwards', async () => {
    await using platform = await startTestPlatform({ database: await open() });
    for (let round = 0; round < rounds; round++) {
      const user = await signUpAs(platform, `p${round}@example.com`);
      const refresh = (refreshToken: string) =>
        callAnonymously(platform, '/v1/auth/refresh', { refresh_token: refreshToken });
      const [deleted, refreshed, loggedIn] = await Promise.all([
        user.call('DELETE', '/v1/me', { password }),
        refresh(user.refreshToken),
        logInAs(platform, user.email),
      ]);
      expect(deleted.status).toBe(204);
      for (const { status, body } of [refreshed, loggedIn]) {
        expect([200, 401]).toContain(status);
        if (status !== 200) continue;
        const headers = { authorization: `Bearer ${body.access_token}` };
        expect((await platform.call('GET', '/v1/me', { key: '', headers })).status).toBe(401);
        expect((await refresh(body.refresh_token)).status).toBe(401);
      }
    }
  });

  test('a team is handed over to it owns none: one of the two is refused', async () => {
    await using platform = await startTestPlatform({ database: await open() });
    for (let round = 0; round < rounds; round++) {
      const owner = await platform.signIn();
      const heir = await platform.signIn({ teamId: owner.teamId, role: 'member' });
      const [handed, deleted] = await Promise.all([
        owner.call('POST', `${teamUrl(owner)}/transfer`, { body: { user_id: formatId('user', heir.userId) } }),
        heir.call('DELETE', '/v1/me'),
      ]);
      expect([
        [200, 409],
        [404, 204],
      ]).toContainEqual([handed.status, deleted.status]);
      expect(await memberships(platform, heir.userId)).toHaveLength(deleted.status === 204 ? 0 : 1);
    }
  });

  test('it joins, is added to or makes teams is in none afterwards', async () => {
    await using platform = await startTestPlatform({ database: await open() });
    for (let round = 0; round < rounds; round++) {
      const owner = await platform.signIn();
      const person = await platform.signIn();
      const statuses = await Promise.all([
        person.call('DELETE', '/v1/me'),
        owner.call('POST', `${teamUrl(owner)}/members`, { body: { email: person.email } }),
        person.call('POST', '/v1/teams', { body: { name: 'late' } }),
      ]);
      for (const { status } of statuses) expect([201, 204, 401, 409]).toContain(status);
      if (await isDeleted(platform, person.userId)) expect(await memberships(platform, person.userId)).toEqual([]);
    }
  });

  test('another administrator does the same leaves one', async () => {
    await using platform = await startTestPlatform({ database: await open() });
    const admins = [await platform.signIn({ isAdmin: true }), await platform.signIn({ isAdmin: true })] as const;
    const url = ({ userId }: TestPerson) => `/v1/admin/users/${formatId('user', userId)}`;
    const [first, second] = admins;
    await Promise.all([
      ...admins.map((admin) => admin.call('DELETE', '/v1/me')),
      first.call('DELETE', url(second)),
      second.call('PUT', `${url(first)}/admin`, { body: { admin: false } }),
    ]);
    const left = platform.database.db.selectFrom('users').select('id').where('is_admin', '=', true);
    expect(await left.where('status', '=', 'active').execute()).toHaveLength(1);
  });

  test('other administrators come into its team does not wait for them for good', async () => {
    await using platform = await startTestPlatform({ database: await open() });
    for (let round = 0; round < rounds; round++) {
      const owner = await platform.signIn();
      const leaver = await platform.signIn({ teamId: owner.teamId, role: 'member', isAdmin: true });
      const comers = await Promise.all([1, 2, 3].map(() => platform.signIn({ isAdmin: true })));
      const replies = await Promise.all([
        ...comers.map(({ email }) => owner.call('POST', `${teamUrl(owner)}/members`, { body: { email } })),
        leaver.call('DELETE', '/v1/me'),
      ]);
      expect(replies.map(({ status }) => status)).toEqual([201, 201, 201, 204]);
    }
  });

  test('replicas purge and an administrator restores is one of the two', async () => {
    await using platform = await startTestPlatform({ database: await open() });
    const { database } = platform;
    const admin = await platform.signIn({ isAdmin: true });
    const clock = { ...systemClock, now: () => Date.now() + 16 * 24 * 3600_000 };
    for (let round = 0; round < rounds; round++) {
      const person = await platform.signIn();
      await person.call('DELETE', '/v1/me');
      const purge = () => purgeAccounts({ database, clock, logger: silentLogger });
      const [restored] = await Promise.all([
        admin.call('POST', `/v1/admin/users/${formatId('user', person.userId)}/restore`),
        purge(),
        purge(),
      ]);
      const rows = await database.db.selectFrom('users').select('status').where('id', '=', person.userId).execute();
      expect(rows).toEqual(restored.status === 204 ? [{ status: 'active' }] : []);
    }
  });

  // PGlite has one connection: nobody comes in between there.
  if (kind === 'pglite') return;

  test.each([
    ['is removed', (boss: TestPerson, maker: TestPerson) => boss.call('DELETE', memberUrl(boss, maker))],
    ['leaves', (boss: TestPerson, maker: TestPerson) => maker.call('POST', `${teamUrl(boss)}/leave`)],
    ['is deactivated', (boss: TestPerson, maker: TestPerson) => deactivate(boss, maker)],
    ['deletes the account', (_boss: TestPerson, maker: TestPerson) => maker.call('DELETE', '/v1/me')],
  ])('an API key is made whose maker %s leaves no key', async (_name, takeOut) => {
    await using platform = await startTestPlatform({ database: await open() });
    const { db } = platform.database;
    const boss = await platform.signIn({ isAdmin: true });
    const maker = await platform.signIn({ teamId: boss.teamId, role: 'member' });
    await sql`CREATE FUNCTION wait_for_test() RETURNS trigger LANGUAGE plpgsql AS
      'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END'`.execute(db);
    await sql`CREATE TRIGGER api_keys_wait BEFORE INSERT ON api_keys FOR EACH ROW EXECUTE FUNCTION wait_for_test()`.execute(
      db,
    );
    const waiting = async () => {
      const { rows } = await sql<{ count: number }>`
        SELECT count(*)::integer AS count FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'`.execute(db);
      return rows[0]?.count;
    };
    let isOut = false;
    const replies = await platform.database.transaction(async (unit) => {
      await sql`SELECT pg_advisory_xact_lock(1)`.execute(unit.db);
      const made = maker.call('POST', '/v1/api-keys', { body: { name: 'late' } });
      await expect.poll(waiting).toBe(1);
      const out = takeOut(boss, maker).finally(() => {
        isOut = true;
      });
      // Either it waits for the key, or it is through.
      await expect.poll(async () => isOut || (await waiting()) === 2).toBe(true);
      return [made, out] as const;
    });
    const [made, out] = await Promise.all(replies);
    expect([made.status, out.status]).toEqual([201, 204]);
    const left = db.selectFrom('api_keys').select('id').where('created_by', '=', maker.userId);
    expect(await left.where('revoked_at', 'is', null).execute()).toEqual([]);
    expect((await platform.call('GET', '/v1/sandboxes', { key: made.body.key })).status).toBe(401);
    expect(parseId('apiKey', made.body.id)).toBeDefined();
  });

  const memberUrl = (boss: TestPerson, { userId }: TestPerson) =>
    `${teamUrl(boss)}/members/${formatId('user', userId)}`;
  const deactivate = (boss: TestPerson, { userId }: TestPerson) =>
    boss.call('PUT', `/v1/admin/users/${formatId('user', userId)}/active`, { body: { active: false } });
});
