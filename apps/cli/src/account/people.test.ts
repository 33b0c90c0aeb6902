import path from 'node:path';
import { must } from '@aviary/core';
import { TOTP } from 'otpauth';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findClaimLink } from '../platform/claim-link.ts';
import { readApiKey } from '../platform/start-platform.ts';
import { TestRealApi } from '../test-real-api.ts';
import { profilesFile, readProfiles, writeProfiles } from './profile-store.ts';

let api: TestRealApi;
beforeAll(async () => {
  api = await TestRealApi.start();
}, 90_000);
afterAll(() => api?.[Symbol.asyncDispose]());

/** Everybody has settings of their own. */
const homeOf = (who: string): Record<string, string> => ({ XDG_CONFIG_HOME: path.join(api.directory, who) });
const profileFile = (extra: Record<string, string>): string => must(profilesFile(extra), 'it is set');

async function as(who: string, argv: readonly string[], lines: readonly string[] = []) {
  const { code, stdout, stderr } = await api.run({ argv: [...argv, '--json'], lines, extra: homeOf(who) });
  return { code, stderr, body: stdout === '' ? undefined : JSON.parse(stdout) };
}

/** As {@link as}, for what must succeed. */
async function did(who: string, argv: readonly string[], lines: readonly string[] = []) {
  const { code, stderr, body } = await as(who, argv, lines);
  expect(code, `${argv.join(' ')}: ${stderr}`).toBe(0);
  return body;
}

describe('people at the command line', () => {
  // Spaces at the ends belong to it.
  const password = ' a long enough password ';
  const asPerson = (argv: readonly string[], lines: readonly string[] = []) => as('ada', argv, lines);
  const extra = () => homeOf('ada');

  it('are shown a page on which the platform is claimed', async () => {
    const { apiUrl } = api.platform;
    const link = must(await findClaimLink({ dataDir: api.directory, publicUrl: undefined }, apiUrl), 'nobody has');
    expect(link.url).toBe(`${apiUrl}/account/claim#${link.code}`);
    expect((await fetch(link.url)).status).toBe(200);
  });

  it('claim the platform once, make a key, and go again', async () => {
    const claim = ['admin', 'claim', '--email', 'ada@example.com', '--name', 'Ada'];
    expect((await asPerson(claim, [password])).body).toMatchObject({
      user: { is_admin: true },
      team: { role: 'owner' },
    });
    expect((await asPerson(claim, ['0'.repeat(40), password])).code).not.toBe(0);
    expect((await asPerson(['whoami'])).body).toMatchObject({ email: 'ada@example.com', is_admin: true });
    const made = (await asPerson(['key', 'create', 'reporting', '--scope', 'read'])).body;
    expect((await asPerson(['key', 'list'])).body.items[0]).toMatchObject({ id: made.id, scopes: ['read'] });
    const byKey = { ...extra(), AVIARY_API_KEY: made.key };
    expect((await api.run({ argv: ['sandbox', 'list'], extra: byKey })).code).toBe(0);
    expect((await api.run({ argv: ['sandbox', 'create'], extra: byKey })).stderr).toContain('this API key is for read');
    await asPerson(['key', 'revoke', made.id]);
    expect((await api.run({ argv: ['sandbox', 'list'], extra: byKey })).code).toBe(5);
    expect((await asPerson(['logout'])).code).toBe(0);
    expect((await asPerson(['logout'])).stderr).toContain('not logged in');
  });

  it('log in with what they know', async () => {
    const login = ['login', '--email', 'ada@example.com'];
    expect((await asPerson(login, ['not the password'])).code).toBe(5);
    expect((await asPerson(login, [password.trim()])).code).toBe(5);
    expect((await asPerson(login)).stderr).toContain('password is missing');
    expect((await asPerson(login, [password])).body.user.email).toBe('ada@example.com');
    expect((await asPerson(['whoami'])).code).toBe(0);
    const stale = readProfiles(profileFile(extra()));
    for (const profile of Object.values(stale.profiles)) {
      if (profile.credential.type === 'session') profile.credential.accessTokenExpiresAt = new Date(0).toISOString();
    }
    await writeProfiles(profileFile(extra()), stale);
    // Two at once: one renews the session, the other waits for what it got.
    const both = await Promise.all([asPerson(['whoami']), asPerson(['whoami'])]);
    expect(both.map(({ code }) => code)).toEqual([0, 0]);
  });

  it('set a password and verify their address by links that an administrator hands over', async () => {
    expect(await findClaimLink({ dataDir: api.directory, publicUrl: undefined }, api.platform.apiUrl)).toBeUndefined();
    await did('joan', ['signup', '--email', 'joan@example.com'], [password]);
    await did('joan', ['password', 'reset', '--email', 'joan@example.com']);
    await did('joan', ['email', 'send']);
    const mails = async () => (await did('ada', ['admin', 'mails'])).items.map(({ kind }: { kind: string }) => kind);
    await expect.poll(mails).toEqual(expect.arrayContaining(['password_reset', 'verify_email']));
    const { url } = await did('ada', ['admin', 'user', 'link', 'joan@example.com', '--verify']);
    await did('joan', ['email', 'verify'], [url]);
    expect(await did('joan', ['whoami'])).toMatchObject({ email_verified: true });
    const link = await did('ada', ['admin', 'user', 'link', 'joan@example.com']);
    await did('joan', ['password', 'set'], [link.url, 'quite another password']);
    expect((await as('joan', ['password', 'set'], [link.url, 'quite another password'])).code).toBe(5);
    await did('joan', ['login', '--email', 'joan@example.com'], ['quite another password']);
  });

  it('show a second factor, as a flag or when they are asked', async () => {
    await did('alan', ['signup', '--email', 'alan@example.com'], [password]);
    expect((await as('alan', ['second-factor', 'setup'], ['not the password'])).code).toBe(5);
    const { secret } = await did('alan', ['second-factor', 'setup'], [password]);
    expect((await as('alan', ['second-factor', 'confirm', 'abcdef'])).code).toBe(5);
    const code = new TOTP({ secret }).generate();
    const { recovery_codes: codes } = await did('alan', ['second-factor', 'confirm', code]);
    const [first, second, third] = codes;
    const login = ['login', '--email', 'alan@example.com'];
    const wrong = await as('alan', [...login, '--code', 'not-a-code'], [password]);
    expect([wrong.code, wrong.stderr]).toEqual([5, expect.stringContaining('the code is wrong or was used before')]);
    expect((await as('alan', login, [password])).stderr).toContain('code of your app, or a recovery code is missing');
    expect((await as('alan', [...login, '--code', first], [password])).body.user.email).toBe('alan@example.com');
    expect((await as('alan', [...login, '--code', first], [password])).code).toBe(5);
    expect((await as('alan', login, [password, second])).code).toBe(0);
    const { recovery_codes: renewed } = await did('alan', ['second-factor', 'recovery-codes', '--code', third]);
    expect([renewed.length, new Set([...renewed, ...codes]).size]).toEqual([10, 20]);
    await did('alan', ['second-factor', 'disable'], [password]);
    await did('alan', login, [password]);
    expect((await as('alan', ['whoami'])).code).toBe(0);
  });

  it('log in with a key that is good', async () => {
    expect((await asPerson(['login', '--key'], ['avy_0'])).code).toBe(5);
    const apiKey = await readApiKey(api.platform);
    expect((await asPerson(['login', '--key'], [apiKey])).code).toBe(0);
    const { body } = await asPerson(['whoami']);
    expect(body).toMatchObject({ team: { name: 'Default' }, api_key: { prefix: apiKey.slice(0, 12) }, user: null });
    expect((await api.run({ argv: ['whoami'], extra: extra() })).stdout).toContain('of the team Default');
    expect((await asPerson(['team', 'list'])).code).toBe(5);
    expect((await asPerson(['sandbox', 'list'])).code).toBe(0);
    const shadowed = { ...extra(), AVIARY_API_KEY: apiKey };
    const again = await api.run({ argv: ['login', '--key'], lines: [apiKey], extra: shadowed });
    expect(again.stderr).toContain('AVIARY_API_KEY is set, and comes before this log-in');
  });
});

describe('teams at the command line', () => {
  const password = 'a long enough password';

  it('are made, joined, run and left', async () => {
    await did('grace', ['signup', '--email', 'grace@example.com', '--name', 'Grace'], [password]);
    await did('lin', ['signup', '--email', 'lin@example.com'], [password]);
    const team = await did('grace', ['team', 'create', 'Compilers']);
    expect((await did('grace', ['team', 'list'])).items).toHaveLength(2);
    expect(await did('grace', ['team', 'switch', team.slug])).toMatchObject({ team: { id: team.id, role: 'owner' } });
    expect(await did('grace', ['whoami'])).toMatchObject({ team: { id: team.id } });
    const { token } = await did('grace', ['team', 'invite', 'lin@example.com']);
    expect((await did('grace', ['team', 'invitations'])).items).toMatchObject([{ email: 'lin@example.com' }]);
    expect((await as('lin', ['team', 'switch', 'Compilers'])).code).toBe(3);
    expect(await did('lin', ['team', 'accept'], [token])).toMatchObject({ id: team.id, role: 'member' });
    const typed = ['__complete', '--', 'team', 'switch', team.slug.slice(0, 4)];
    expect((await api.run({ argv: typed, extra: homeOf('lin') })).stdout).toContain(`${team.slug}\tCompilers (member)`);
    await did('lin', ['team', 'switch', 'Compilers']);
    expect((await as('lin', ['team', 'rename', 'Mine'])).code).toBe(5);
    expect(await did('grace', ['team', 'role', 'lin@example.com', 'admin'])).toMatchObject({ role: 'admin' });
    expect(await did('lin', ['team', 'rename', 'Linkers'])).toMatchObject({ name: 'Linkers', slug: team.slug });
    expect((await did('lin', ['team', 'members'])).items.map((one: { role: string }) => one.role).sort()).toEqual([
      'admin',
      'owner',
    ]);
    expect((await as('grace', ['team', 'leave', team.slug])).code).toBe(6);
    expect(await did('grace', ['team', 'transfer', 'LIN@example.com'])).toMatchObject({ role: 'admin' });
    await did('lin', ['team', 'remove', 'grace@example.com']);
    expect((await as('grace', ['team', 'members', '--team', 'Linkers'])).code).toBe(3);
    await did('lin', ['team', 'invite', 'guest@example.com', '--role', 'admin']);
    await did('lin', ['team', 'uninvite', 'guest@example.com']);
    expect((await did('lin', ['team', 'invitations'])).items).toEqual([]);
    const log = (await did('lin', ['audit', '--resource', 'member', '--resource', 'invitation'])).items;
    expect(log.map(({ action }: { action: string }) => action)).toEqual([
      'invitation.revoke',
      'invitation.create',
      'member.remove',
      'member.role_update',
      'invitation.accept',
      'invitation.create',
    ]);
    const lines = (await api.run({ argv: ['audit', '--ndjson', '--limit', '2'], extra: homeOf('lin') })).stdout;
    expect(
      lines
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line).id),
    ).toEqual([log[0].id, log[1].id]);
    await did('lin', ['team', 'delete', team.slug]);
    expect((await did('lin', ['whoami'])).team).toBeNull();
    expect((await as('lin', ['team', 'members'])).stderr).toContain('aviary team switch');
    await did('lin', ['team', 'switch', "lin's team"]);
    expect((await did('lin', ['team', 'members'])).items).toMatchObject([{ role: 'owner' }]);
  });

  it('are seen whole by administrators', async () => {
    const guess = ['login', '--email', 'lin@example.com'];
    expect((await as('lin', guess, ['a guess'])).stderr).not.toContain('AVIARY_API_KEY');
    expect((await as('lin', ['admin', 'users'])).code).toBe(5);
    await did('ada', ['login', '--email', 'ada@example.com'], [' a long enough password ']);
    expect((await did('ada', ['admin', 'users', '--search', 'lin@'])).items).toHaveLength(1);
    await did('ada', ['admin', 'user', 'deactivate', 'lin@example.com']);
    expect((await as('lin', ['whoami'])).code).toBe(5);
    expect(await did('ada', ['admin', 'user', 'show', 'Lin@example.com'])).toMatchObject({ status: 'deactivated' });
    await did('ada', ['admin', 'user', 'activate', 'lin@example.com']);
    await did('ada', ['admin', 'user', 'promote', 'lin@example.com']);
    await did('ada', ['admin', 'user', 'demote', 'lin@example.com']);
    await did('ada', ['admin', 'user', 'remove-second-factor', 'lin@example.com']);
    const quota = ['admin', 'team', 'quota', "lin's team"];
    expect(await did('ada', [...quota, '--sandboxes', '3', '--vcpus', '2'])).toMatchObject({
      limits: { sandboxes: 3 },
    });
    expect(await did('ada', [...quota, '--vcpus', 'none'])).toMatchObject({ limits: { sandboxes: 3, vcpus: null } });
    expect(await did('ada', ['admin', 'team', 'show', "lin's team"])).toMatchObject({ limits: { sandboxes: 3 } });
    expect((await did('ada', ['admin', 'teams', '--search', 'Linkers'])).items[0].deleted_at).not.toBeNull();
    expect((await did('ada', ['admin', 'sandboxes'])).items).toEqual([]);
    await did('ada', ['admin', 'team', 'delete', "lin's team"]);
    await did('ada', ['admin', 'user', 'delete', 'lin@example.com']);
    expect((await as('lin', ['whoami'])).code).toBe(5);
    await did('ada', ['admin', 'user', 'restore', 'lin@example.com']);
    const log = (await did('ada', ['admin', 'audit', '--resource', 'user', '--limit', '6'])).items;
    expect(log.map(({ action }: { action: string }) => action)).toEqual([
      'user.restore',
      'user.delete',
      'user.set_admin',
      'user.set_admin',
      'user.activate',
      'user.deactivate',
    ]);
  });
});

describe('sessions', () => {
  it('are listed, ended one by one, by another password, or all', async () => {
    const [old, next] = ['a long enough password', 'another long password'];
    const login = ['login', '--email', 'eve@example.com'];
    await did('eve', ['signup', '--email', 'eve@example.com'], [old]);
    await did('eve-phone', login, [old]);
    await did('eve-lost', login, [old]);
    expect(await did('eve', ['passkey', 'list'])).toEqual({ items: [] });
    const { items } = await did('eve', ['session', 'list']);
    expect(items.map((one: { is_current: boolean }) => one.is_current)).toEqual([false, false, true]);
    await did('eve', ['session', 'end', items[0].id]);
    expect((await as('eve-lost', ['whoami'])).code).toBe(5);
    expect((await as('eve', ['password', 'change'], ['not the password', next])).code).toBe(5);
    await did('eve', ['password', 'change'], [old, next]);
    expect((await as('eve-phone', ['whoami'])).code).toBe(5);
    await did('eve-phone', login, [next]);
    await did('eve', ['logout', '--all']);
    expect((await as('eve-phone', ['whoami'])).code).toBe(5);
    expect((await as('eve', ['logout', '--all'])).code).toBe(5);
  });
});

describe('an account', () => {
  it('is deleted by who knows its address and password', async () => {
    await did('bob', ['signup', '--email', 'bob@example.com'], ['a long enough password']);
    expect((await as('bob', ['account', 'delete', 'ada@example.com'], ['a long enough password'])).code).toBe(2);
    expect((await as('bob', ['account', 'delete', 'bob@example.com'], ['another password'])).code).toBe(5);
    await did('bob', ['account', 'delete', 'bob@example.com'], ['a long enough password']);
    expect((await did('bob', ['profile', 'list'])).items).toEqual([]);
    expect((await as('bob', ['login', '--email', 'bob@example.com'], ['a long enough password'])).code).toBe(5);
  });

  it('is restored by its address, unless somebody has that by now', async () => {
    await did('bob', ['signup', '--email', 'bob@example.com'], ['a long enough password']);
    const refused = await as('ada', ['admin', 'user', 'restore', 'bob@example.com']);
    expect([refused.code, refused.stderr]).toEqual([6, expect.stringContaining('bob@example.com')]);
  });
});

describe('profiles', () => {
  it('are for several servers, one of which is in use', async () => {
    const work = { ...homeOf('ada'), AVIARY_PROFILE: 'work' };
    const apiKey = await readApiKey(api.platform);
    expect((await api.run({ argv: ['login', '--key'], lines: [apiKey], extra: work })).code).toBe(0);
    expect((await did('ada', ['profile', 'list'])).items).toMatchObject([
      { name: 'default', as: 'ada@example.com', is_current: false },
      { name: 'work', as: 'an API key', is_current: true, api_url: api.platform.apiUrl },
    ]);
    const leave = await api.run({ argv: ['logout'], extra: { ...homeOf('ada'), AVIARY_PROFILE: 'work' } });
    expect(leave.stderr).toContain("'aviary profile use NAME' goes on with one of: default");
    expect((await api.run({ argv: ['login', '--key'], lines: [apiKey], extra: work })).code).toBe(0);
    await did('ada', ['profile', 'use', 'default']);
    expect(await did('ada', ['whoami'])).toMatchObject({ email: 'ada@example.com' });
    expect((await as('ada', ['profile', 'use', 'wrok'])).code).toBe(3);
    await did('ada', ['profile', 'remove', 'work']);
    expect((await did('ada', ['profile', 'list'])).items).toHaveLength(1);
    expect((await as('ada', ['profile', 'remove', 'work'])).code).toBe(3);
  });
});
