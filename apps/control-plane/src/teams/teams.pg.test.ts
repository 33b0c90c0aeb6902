import { formatId } from '@aviary/core';
import { describeStores } from '@aviary/testing';
import { expect, test } from 'vitest';
import { startTestPlatform, type TestPerson } from '../test-platform.ts';

describeStores('a team that several change at once', (open) => {
  const start = async () => {
    const platform = await startTestPlatform({ database: await open() });
    const owner = await platform.signIn();
    const { teamId } = owner;
    const heirs = [
      await platform.signIn({ teamId, role: 'admin' }),
      await platform.signIn({ teamId, role: 'member' }),
    ] as const;
    const url = `/v1/teams/${formatId('team', teamId)}`;
    const owners = async () =>
      (
        await platform.database.db
          .selectFrom('team_members')
          .select('user_id')
          .where('team_id', '=', teamId)
          .where('role', '=', 'owner')
          .execute()
      ).map(({ user_id }) => user_id);
    const hand = async (by: TestPerson, to: TestPerson) =>
      (await by.call('POST', `${url}/transfer`, { body: { user_id: formatId('user', to.userId) } })).status;
    return { platform, owner, heirs, url, owners, hand };
  };

  test('has one owner after two transfers', async () => {
    const { platform, owner, heirs, owners, hand } = await start();
    await using _platform = platform;
    const statuses = await Promise.all(heirs.map((heir) => hand(owner, heir)));
    expect(statuses.sort()).toEqual([200, 403]);
    expect(await owners()).toHaveLength(1);
    expect(await owners()).not.toEqual([owner.userId]);
  });

  test('has one owner when an heir leaves, is removed, or the owner leaves meanwhile', async () => {
    const { platform, owner, heirs, url, owners, hand } = await start();
    await using _platform = platform;
    const [admin, member] = heirs;
    await Promise.all([
      hand(owner, member),
      member.call('POST', `${url}/leave`),
      admin.call('DELETE', `${url}/members/${formatId('user', member.userId)}`),
      owner.call('POST', `${url}/leave`),
      admin.call('PATCH', `${url}/members/${formatId('user', member.userId)}`, { body: { role: 'admin' } }),
    ]);
    expect(await owners()).toHaveLength(1);
  });

  test('takes one invitation once', async () => {
    const { platform, owner, url } = await start();
    await using _platform = platform;
    const { token } = (await owner.call('POST', `${url}/members`, { body: { email: 'g@example.com' } })).body;
    const guest = await platform.signIn({ email: 'g@example.com' });
    const replies = await Promise.all(
      [1, 2, 3].map(() => guest.call('POST', '/v1/invitations/accept', { body: { token } })),
    );
    expect(replies.map(({ status }) => status === 200)).toEqual(expect.arrayContaining([true]));
    expect(replies.filter(({ status }) => status === 200)).toHaveLength(1);
  });
});
