import { must, newId, parseEmail } from '@aviary/core';
import type { Database } from '@aviary/database';
import { silentLogger } from '@aviary/service-kit';
import { VirtualClock } from '@aviary/service-kit/virtual-clock';
import { describeStores } from '@aviary/testing';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { MailKind } from './mail-kind.ts';
import { claimDueMails, listMails } from './mail-store.ts';
import { defaultMailerOptions, Mailer } from './mailer.ts';
import { startMailServer, type TestMailServer } from './test-mail-server.ts';

const note: MailKind = { kind: 'note', compose: async () => ({ subject: 'Note', paragraphs: ['Hello.'] }) };

describeStores('mails', (open) => {
  let server: TestMailServer;
  let database: Database;
  let clock: VirtualClock;
  beforeEach(async () => {
    server = await startMailServer();
    database = await open();
    clock = new VirtualClock();
  });
  afterEach(() => server?.[Symbol.asyncDispose]());

  const createMailer = () => {
    const settings = { publicUrl: new URL('https://aviary.example.com'), smtp: server.settings };
    const mailer = new Mailer({ database, clock, logger: silentLogger }, settings, defaultMailerOptions);
    mailer.use([note]);
    return mailer;
  };
  const queue = (mailer: Mailer, address: string, subjectId: string = newId('team')) =>
    database.transaction((unit) => {
      const expiresAt = new Date(clock.now() + 3_600_000);
      return mailer.queue(unit, { kind: 'note', to: parseEmail(address), subjectId, expiresAt });
    });
  const kept = () => listMails(database.db, { limit: 100 });

  test('of many mails each goes out once, whichever replica sends it', async () => {
    const replicas = [createMailer(), createMailer(), createMailer()];
    const addresses = Array.from({ length: 30 }, (_, i) => `user${i}@example.com`);
    await Promise.all(addresses.map((address, i) => queue(must(replicas[i % 3], 'one of three'), address)));
    await Promise.all(replicas.map((mailer) => mailer.runOnce()));
    await expect.poll(kept).toEqual([]);
    expect(server.received.flatMap(({ to }) => to).sort()).toEqual([...addresses].sort());
  });

  test('what a replica was at when it died is sent by another, when its time is over', async () => {
    server.refusal = { code: 451, text: 'not now' };
    const mailer = createMailer();
    await queue(mailer, 'ada@example.com');
    await mailer.runOnce();
    server.refusal = undefined;
    await clock.advance(defaultMailerOptions.minRetryMs);
    // The dead one: it took the mail and was never heard of again.
    const leaseMs = 60_000;
    const taken = await claimDueMails(database.db, { kinds: ['note'], limit: 10, now: new Date(clock.now()), leaseMs });
    expect(taken).toMatchObject([{ attempts: 2 }]);
    await mailer.runOnce();
    expect(server.received).toEqual([]);
    await clock.advance(leaseMs);
    await mailer.runOnce();
    expect(server.received).toHaveLength(1);
    expect(await kept()).toEqual([]);
  });

  test('a later mail about the same takes the place of one that waits', async () => {
    server.refusal = { code: 451, text: 'not now' };
    const mailer = createMailer();
    const about = newId('team');
    for (const address of ['ada@example.com', 'Ada@Example.com', 'grace@example.com'])
      await queue(mailer, address, about);
    await mailer.runOnce();
    expect((await kept()).map(({ email }) => email).sort()).toEqual(['Ada@Example.com', 'grace@example.com']);
  });
});
