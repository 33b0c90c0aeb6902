import { formatId } from '@aviary/core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startMailServer, type TestMailServer } from '../mail/test-mail-server.ts';
import { startTestPlatform, type TestPlatform } from '../test-platform.ts';

let server: TestMailServer;
let platform: TestPlatform;
beforeAll(async () => {
  server = await startMailServer();
  platform = await startTestPlatform({ smtp: server.settings });
});
afterAll(async () => {
  await platform?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});

const tokenOf = (link: string) => new URL(link).hash.slice(1);

test('an invitation goes to its address, and its token to nobody else', async () => {
  const owner = await platform.signIn();
  const url = `/v1/teams/${formatId('team', owner.teamId)}/members`;
  const { status, body } = await owner.call('POST', url, { body: { email: 'Guest@example.com', role: 'admin' } });
  expect([status, body.token, body.invitation.email]).toEqual([201, null, 'Guest@example.com']);
  const mail = await server.mailTo('Guest@example.com');
  expect(mail.text).toContain(`${owner.email} invites you`);
  expect(new URL(mail.link).pathname).toBe('/account/invitation');
  const guest = await platform.signIn({ email: 'guest@example.com' });
  const accept = () => guest.call('POST', '/v1/invitations/accept', { body: { token: tokenOf(mail.link) } });
  expect((await accept()).body).toMatchObject({ id: formatId('team', owner.teamId), role: 'admin' });
  expect((await accept()).status).toBe(404);
});

test('an invitation that was revoked before the mail server came back is not sent', async () => {
  const owner = await platform.signIn();
  const url = `/v1/teams/${formatId('team', owner.teamId)}`;
  server.refusal = { code: 451, text: 'not now' };
  const { body } = await owner.call('POST', `${url}/members`, { body: { email: 'twice@example.com' } });
  const row = () => platform.database.db.selectFrom('mails').select(['attempts', 'last_error']).execute();
  await expect.poll(row).toMatchObject([{ last_error: expect.stringContaining('not now') }]);
  await owner.call('DELETE', `${url}/invitations/${body.invitation.id}`);
  server.refusal = undefined;
  await platform.database.db.updateTable('mails').set({ next_attempt_at: new Date() }).execute();
  await platform.controlPlane.context.mailer.runOnce();
  expect([await row(), server.received]).toEqual([[], []]);
});

test('somebody whose address is verified is in at once, and told so', async () => {
  const owner = await platform.signIn();
  const known = await platform.signIn({ email: 'known@example.com' });
  const url = `/v1/teams/${formatId('team', owner.teamId)}/members`;
  const { body } = await owner.call('POST', url, { body: { email: known.email } });
  expect([body.member.user_id, body.token]).toEqual([formatId('user', known.userId), null]);
  expect((await server.mailTo(known.email)).text).toContain(`${owner.email} has put you into the team`);
});
