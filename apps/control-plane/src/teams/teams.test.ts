import { formatId } from '@aviary/core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { insertTestUser } from '../test-people-store.ts';
import { startTestPlatform, type TestPerson, type TestPlatform } from '../test-platform.ts';

let platform: TestPlatform;
beforeAll(async () => {
  platform = await startTestPlatform();
});
afterAll(() => platform?.[Symbol.asyncDispose]());

const usr = (person: Pick<TestPerson, 'userId'>) => formatId('user', person.userId);
const urlOf = ({ teamId }: TestPerson, rest = '') => `/v1/teams/${formatId('team', teamId)}${rest}`;
const actionsOf = async ({ teamId }: TestPerson) =>
  (
    await platform.database.db
      .selectFrom('audit_logs')
      .select('action')
      .where('team_id', '=', teamId)
      .orderBy('id')
      .execute()
  ).map(({ action }) => action);

describe('a team', () => {
  test('is made, listed, renamed and seen by its members alone', async () => {
    const founder = await platform.signIn();
    const made = (await founder.call('POST', '/v1/teams', { body: { name: 'Blue "Ω" team' } })).body;
    expect(made).toMatchObject({ name: 'Blue "Ω" team', role: 'owner' });
    expect(made.slug).toMatch(/^[0-9a-f]{6}-[0-9a-f]{6}$/);
    const url = `/v1/teams/${made.id}`;
    expect((await founder.call('PATCH', url, { body: { name: 'Green' } })).body).toEqual({ ...made, name: 'Green' });
    expect((await founder.call('GET', url)).body.members).toMatchObject([{ email: founder.email, role: 'owner' }]);
    expect((await founder.call('GET', '/v1/teams')).body.items.map((item: { id: string }) => item.id)).toEqual(
      [formatId('team', founder.teamId), made.id].sort(),
    );
    const stranger = await platform.signIn();
    for (const [method, rest, body] of [
      ['GET', ''],
      ['PATCH', '', { name: 'x' }],
      ['DELETE', ''],
      ['GET', '/members'],
      ['POST', '/leave'],
    ] as const)
      expect((await stranger.call(method, `${url}${rest}`, { body })).status).toBe(404);
  });

  test.each(['', ' ', '\u0000', 'x'.repeat(129)])('is not called %j', async (name) => {
    const founder = await platform.signIn();
    expect((await founder.call('POST', '/v1/teams', { body: { name } })).status).toBe(400);
  });
});

describe('members', () => {
  test('with an account whose address is known to be theirs are added; anybody else is invited', async () => {
    const owner = await platform.signIn();
    const known = await platform.signIn({ email: 'Known@Example.com' });
    const add = (email: string) => owner.call('POST', urlOf(owner, '/members'), { body: { email } });
    expect((await add('known@example.COM')).body).toMatchObject({ member: { user_id: usr(known) }, invitation: null });
    expect((await add('known@example.com')).status).toBe(409);
    const { userId } = await insertTestUser(platform.database.db, { email: 'squatter@example.com' });
    await platform.database.db.updateTable('users').set({ email_verified_at: null }).where('id', '=', userId).execute();
    expect((await add('squatter@example.com')).body).toMatchObject({ member: null, invitation: { role: 'member' } });
    expect((await add('not an address')).status).toBe(400);
  });

  test('an invitation is good once, for its address, until it is revoked or replaced', async () => {
    const owner = await platform.signIn();
    const invite = async (email: string) =>
      (await owner.call('POST', urlOf(owner, '/members'), { body: { email, role: 'admin' } })).body;
    const replaced = await invite('new@example.com');
    const { token } = await invite('NEW@example.com');
    const list = async () => (await owner.call('GET', urlOf(owner, '/invitations'))).body.items;
    expect((await list()).map((item: { email: string }) => item.email)).toEqual(['NEW@example.com']);
    const guest = await platform.signIn({ email: 'new@example.com' });
    const other = await platform.signIn();
    const accept = async (person: TestPerson, secret: string) =>
      (await person.call('POST', '/v1/invitations/accept', { body: { token: secret } })).status;
    expect(await accept(guest, replaced.token)).toBe(404);
    expect(await accept(other, token)).toBe(403);
    expect(await accept(guest, token)).toBe(200);
    expect(await accept(guest, token)).toBe(404);
    expect((await guest.call('GET', urlOf(owner))).body.role).toBe('admin');
    const late = await invite('late@example.com');
    expect((await owner.call('DELETE', urlOf(owner, `/invitations/${late.invitation.id}`))).status).toBe(204);
    expect(await accept(await platform.signIn({ email: 'late@example.com' }), late.token)).toBe(404);
    expect(await actionsOf(owner)).toEqual([
      'invitation.create',
      'invitation.revoke',
      'invitation.create',
      'invitation.accept',
      'invitation.create',
      'invitation.revoke',
    ]);
  });

  test.each([
    [
      'is removed',
      (admin: TestPerson, owner: TestPerson) => owner.call('DELETE', urlOf(owner, `/members/${usr(admin)}`)),
    ],
    ['leaves', (admin: TestPerson, owner: TestPerson) => admin.call('POST', urlOf(owner, '/leave'))],
    [
      'is admin no more',
      (admin: TestPerson, owner: TestPerson) =>
        owner.call('PATCH', urlOf(owner, `/members/${usr(admin)}`), { body: { role: 'member' } }),
    ],
    ['deletes their account', (admin: TestPerson) => admin.call('DELETE', '/v1/me', { body: {} })],
  ])('what an admin invited is void once they %s: it may be themselves', async (what, end) => {
    const owner = await platform.signIn();
    const admin = await platform.signIn({ teamId: owner.teamId, role: 'admin' });
    const invite = async (by: TestPerson, email: string) =>
      (await by.call('POST', urlOf(owner, '/members'), { body: { email, role: 'admin' } })).body.token;
    const [theirs, ours] = [`back-${what.length}@example.com`, `guest-${what.length}@example.com`];
    const tokens = [await invite(admin, theirs), await invite(owner, ours)];
    expect((await end(admin, owner)).status).toBeLessThan(300);
    const accept = async (email: string, token: string) =>
      (await (await platform.signIn({ email })).call('POST', '/v1/invitations/accept', { body: { token } })).status;
    expect([await accept(theirs, tokens[0]), await accept(ours, tokens[1])]).toEqual([404, 200]);
    expect(await actionsOf(owner)).toContain('invitation.revoke');
  });

  test('one person mails so many strangers in an hour, and one stranger is mailed so often', async () => {
    const owner = await platform.signIn();
    const add = async (by: TestPerson, email: string) =>
      (await by.call('POST', urlOf(by, '/members'), { body: { email } })).status;
    const statuses: number[] = [];
    for (let i = 0; i < 101; i++) statuses.push(await add(owner, `stranger-${i}@example.com`));
    expect(statuses).toEqual([...Array(100).fill(201), 429]);
    const others = [await platform.signIn(), await platform.signIn()] as const;
    const bothered: number[] = [];
    for (let i = 0; i < 11; i++) bothered.push(await add(others[i % 2 === 0 ? 0 : 1], 'Bothered@example.com'));
    expect(bothered).toEqual([...Array(10).fill(201), 429]);
  });

  test('the owner is protected; roles change for others, and count at the next call', async () => {
    const owner = await platform.signIn();
    const { teamId } = owner;
    const admin = await platform.signIn({ teamId, role: 'admin' });
    const member = await platform.signIn({ teamId, role: 'member' });
    const set = async (by: TestPerson, whom: TestPerson, role: string) =>
      (await by.call('PATCH', urlOf(owner, `/members/${usr(whom)}`), { body: { role } })).status;
    expect(await set(admin, owner, 'member')).toBe(409);
    expect(await set(member, admin, 'member')).toBe(403);
    expect(await set(owner, member, 'owner')).toBe(400);
    expect(await set(owner, admin, 'member')).toBe(200);
    expect(await set(admin, member, 'admin')).toBe(403);
    expect(await set(owner, await platform.signIn(), 'admin')).toBe(404);
    expect((await admin.call('DELETE', urlOf(owner, `/members/${usr(owner)}`))).status).toBe(403);
    expect((await owner.call('DELETE', urlOf(owner, `/members/${usr(owner)}`))).status).toBe(409);
    expect((await owner.call('POST', urlOf(owner, '/leave'))).status).toBe(409);
  });

  test('who goes takes their keys along', async () => {
    const owner = await platform.signIn();
    const { teamId } = owner;
    const leaver = await platform.signIn({ teamId, role: 'member' });
    const removed = await platform.signIn({ teamId, role: 'member' });
    const keyOf = async (person: TestPerson) =>
      (await person.call('POST', '/v1/api-keys', { body: { name: 'k' } })).body.key;
    const keys = [await keyOf(leaver), await keyOf(removed), await keyOf(owner)];
    expect((await leaver.call('POST', urlOf(owner, '/leave'))).status).toBe(204);
    expect((await owner.call('DELETE', urlOf(owner, `/members/${usr(removed)}`))).status).toBe(204);
    const statuses = await Promise.all(
      keys.map(async (key) => (await platform.call('GET', '/v1/sandboxes', { key })).status),
    );
    expect(statuses).toEqual([401, 401, 200]);
    for (const person of [leaver, removed]) {
      expect((await person.call('GET', '/v1/sandboxes')).status).toBe(403);
      expect((await person.call('GET', urlOf(owner))).status).toBe(404);
    }
  });

  test('a team is handed over, and the one who had it is an admin then', async () => {
    const owner = await platform.signIn();
    const heir = await platform.signIn({ teamId: owner.teamId, role: 'member' });
    const hand = (by: TestPerson, to: TestPerson) =>
      by.call('POST', urlOf(owner, '/transfer'), { body: { user_id: usr(to) } });
    expect((await hand(heir, heir)).status).toBe(403);
    expect((await hand(owner, await platform.signIn())).status).toBe(404);
    expect((await hand(owner, heir)).body.role).toBe('admin');
    expect((await owner.call('DELETE', urlOf(owner))).status).toBe(403);
    expect((await heir.call('GET', urlOf(owner))).body.role).toBe('owner');
    expect((await heir.call('GET', '/v1/audit-logs?action=team.transfer')).body.items).toMatchObject([
      {
        actor: { name: owner.email },
        resource: { id: formatId('team', owner.teamId) },
        metadata: { email: heir.email },
      },
    ]);
  });
});

test('people are found by the beginning of their address, and only by those who share a team with them', async () => {
  const me = await platform.signIn({ email: 'findme.self@corp.test' });
  for (let index = 0; index < 12; index++)
    await platform.signIn({ teamId: me.teamId, role: 'member', email: `findme${index}@corp.test` });
  const stranger = await platform.signIn({ email: 'findme.not@corp.test' });
  const search = async (person: TestPerson, email: string) =>
    person.call('GET', `/v1/users/search?email=${encodeURIComponent(email)}`);
  expect((await search(me, 'FindMe3@')).body.items.map((item: { email: string }) => item.email)).toEqual([
    'findme3@corp.test',
  ]);
  for (const text of ['findme', 'fi@', '@corp.test', 'findme%@', 'find_e3@']) {
    const reply = await search(me, text);
    expect([text, reply.status === 400 || reply.body.items.length === 0]).toEqual([text, true]);
  }
  expect((await search(stranger, 'findme3@')).body.items).toEqual([]);
  expect((await search(me, 'findme.not@')).body.items).toEqual([]);
});
