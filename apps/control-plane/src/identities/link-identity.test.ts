import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { accountOf, password, signUpAs } from '../accounts/test-account.ts';
import { startMailServer, type TestMailServer } from '../mail/test-mail-server.ts';
import type { Reply, TestPlatform } from '../test-platform.ts';
import { TestBrowser } from './test-browser.ts';
import { type OidcPlatform, startOidcPlatform } from './test-oidc-platform.ts';
import { logInAtProvider } from './test-servers.ts';

let at: OidcPlatform;
let platform: TestPlatform;
let mails: TestMailServer;
beforeAll(async () => {
  mails = await startMailServer();
  at = await startOidcPlatform({ smtp: mails.settings });
  ({ platform } = at);
});
afterAll(async () => {
  // Nothing is under way when the mail server goes.
  await platform?.controlPlane.context.mailer.runOnce();
  await at?.[Symbol.asyncDispose]();
  await mails?.[Symbol.asyncDispose]();
});

describe('an account', () => {
  const link = async (
    account: { call(method: string, url: string, body?: unknown): Promise<Reply> },
    { login, provider = 'acme', given = password }: { login: string; provider?: string; given?: string | null },
  ) => {
    const body = { provider, return_to: '/settings', ...(given === null ? {} : { password: given }) };
    const reply = await account.call('POST', '/v1/me/identities', body);
    expect(reply.status).toBe(200);
    const browser = new TestBrowser();
    const cookie = reply.headers.getSetCookie()[0]?.split(';', 1)[0] ?? '';
    const back = await logInAtProvider(browser, reply.body.authorization_url, login);
    const page = await browser.open(back, { headers: { cookie } });
    return new URL(page.location ?? '').searchParams;
  };
  const identitiesOf = async (account: { call(method: string, url: string): Promise<Reply> }) =>
    (await account.call('GET', '/v1/me/identities')).body.items;

  test('is linked by its owner, who can then sign in at the provider, and is unlinked', async () => {
    const { login, email } = at.newPerson({ email_verified: false });
    const owner = await signUpAs(platform, `owner-of-${email}`);
    const wrong = await owner.call('POST', '/v1/me/identities', { provider: 'acme', password: 'wrong' });
    expect(wrong.status).toBe(403);
    expect((await owner.call('POST', '/v1/me/identities', { provider: 'acme' })).status).toBe(403);
    expect((await link(owner, { login })).toString()).toBe('linked=acme');
    const [identity, ...others] = await identitiesOf(owner);
    expect([identity, others]).toEqual([
      expect.objectContaining({
        id: expect.stringMatching(/^idn-/),
        provider: 'acme',
        issuer: at.servers[0]?.url,
        email,
      }),
      [],
    ]);
    expect((await link(owner, { login })).toString()).toBe('linked=acme');
    expect((await at.signIn(login)).body.user.id).toBe(owner.userId);
    await mails.mailTo(owner.email, 'linked with one at a provider');
    const stranger = await signUpAs(platform, `stranger-of-${email}`);
    expect((await link(stranger, { login })).get('error')).toBe('identity_taken');
    expect((await stranger.call('DELETE', `/v1/me/identities/${identity.id}`)).status).toBe(404);
    expect((await owner.call('DELETE', `/v1/me/identities/${identity.id}`)).status).toBe(204);
    expect((await owner.call('DELETE', `/v1/me/identities/${identity.id}`)).status).toBe(404);
    expect((await at.auditOf(owner.userId)).map(([action]) => action)).toEqual([
      'user.sign_up',
      'user.password_refused',
      'user.identity_link',
      'user.log_in',
      'user.identity_unlink',
    ]);
    const unlinked = await at.cameBack(new TestBrowser(), login);
    expect(unlinked.searchParams.get('error')).toBe('email_unverified');
  });

  test('keeps its last way in', async () => {
    const { login } = at.newPerson();
    const user = accountOf(platform, await at.signIn(login));
    const [first] = await identitiesOf(user);
    const unlink = (id: string) => user.call('DELETE', `/v1/me/identities/${id}`);
    const refused = await unlink(first.id);
    expect([refused.status, refused.body.error.code]).toEqual([409, 'invalid_state']);
    expect(await identitiesOf(user)).toHaveLength(1);
    const { login: second } = at.newPerson();
    expect((await link(user, { login: second, provider: 'other', given: null })).get('linked')).toBe('other');
    const [, other] = await identitiesOf(user);
    const replies = await Promise.all([unlink(first.id), unlink(other.id)]);
    expect(replies.map(({ status }) => status).sort()).toEqual([204, 409]);
    const [left] = await identitiesOf(user);
    expect((await user.call('POST', '/v1/me/password', { new_password: password })).status).toBe(204);
    expect((await unlink(left.id)).status).toBe(204);
  });

  test('is not linked by a session that has ended meanwhile', async () => {
    const { login, email } = at.newPerson();
    const owner = await signUpAs(platform, `late-${email}`);
    const reply = await owner.call('POST', '/v1/me/identities', { provider: 'acme', password });
    const browser = new TestBrowser();
    const back = await logInAtProvider(browser, reply.body.authorization_url, login);
    await owner.call('POST', '/v1/auth/logout-all');
    const cookie = reply.headers.getSetCookie()[0]?.split(';', 1)[0] ?? '';
    const page = await browser.open(back, { headers: { cookie } });
    expect(new URL(page.location ?? '').searchParams.get('error')).toBe('session_ended');
  });
});
