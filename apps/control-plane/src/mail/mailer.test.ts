import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { newId, parseEmail } from '@aviary/core';
import type { Database } from '@aviary/database';
import { createLogger, silentLogger } from '@aviary/service-kit';
import { VirtualClock } from '@aviary/service-kit/virtual-clock';
import { openTestDatabase } from '@aviary/testing';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { MailKind } from './mail-kind.ts';
import { listMails } from './mail-store.ts';
import { defaultMailerOptions, Mailer, type MailerOptions } from './mailer.ts';
import type { SmtpSettings } from './smtp-transport.ts';
import { makeCertificate, type TestCertificate } from './test-certificate.ts';
import { startMailServer, type TestMailServer } from './test-mail-server.ts';

let database: Database;
let clock: VirtualClock;
let composed: string[];
beforeAll(async () => {
  database = await openTestDatabase();
});
afterAll(() => database[Symbol.asyncDispose]());
beforeEach(async () => {
  await database.db.deleteFrom('mails').execute();
  clock = new VirtualClock();
  composed = [];
});

/** Says what was put into it, with a token that is new each time. */
const note: MailKind = {
  kind: 'note',
  compose: async ({ names }, { link }) => {
    if (names['gone']) return undefined;
    const token = `secret-${composed.length}`;
    composed.push(token);
    return {
      subject: `For ${names['team']}`,
      paragraphs: [`Hello <b>${names['team']}</b>.`],
      link: { label: 'Open it', url: link('verify-email', token) },
    };
  },
};

function createMailer(smtp: SmtpSettings | undefined, options: Partial<MailerOptions> = {}, logger = silentLogger) {
  const settings = { publicUrl: new URL('https://aviary.example.com'), smtp };
  const mailer = new Mailer({ database, clock, logger }, settings, { ...defaultMailerOptions, ...options });
  mailer.use([note]);
  return mailer;
}

const hourMs = 3_600_000;
const to = 'ada@example.com';
const queue = (mailer: Mailer, { names = { team: 'Birds' }, ttlMs = 24 * hourMs, address = to } = {}) =>
  database.transaction((unit) =>
    mailer.queue(unit, {
      kind: 'note',
      to: parseEmail(address),
      subjectId: newId('team'),
      names,
      expiresAt: new Date(clock.now() + ttlMs),
    }),
  );
const kept = () => listMails(database.db, { limit: 100 });

/** A server on which connections stay open and nothing is ever said, or what `greet` does. */
async function startSilentServer(greet: (socket: Socket) => void = () => undefined) {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
    greet(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    sockets,
    settings: { host: '127.0.0.1', port, tls: 'none', from: 'aviary@example.com' } as const,
    [Symbol.dispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

describe('with a mail server', () => {
  let server: TestMailServer;
  beforeEach(async () => {
    server = await startMailServer();
  });
  afterEach(() => server[Symbol.asyncDispose]());

  test('a mail goes out after the commit, as text and HTML, and nothing of it is kept', async () => {
    const mailer = createMailer(server.settings);
    await queue(mailer, { names: { team: 'A & "B" <script>\r\nBcc: evil@example.com' } });
    const mail = await server.mailTo(to);
    expect(mail).toMatchObject({
      from: 'aviary@example.com',
      to: [to],
      subject: 'For A & "B" <script> Bcc: evil@example.com',
      link: 'https://aviary.example.com/account/verify-email#secret-0',
    });
    expect(mail.text).toContain('Hello <b>A & "B" <script>');
    expect(mail.html).toContain('Hello &#60;b&#62;A &#38; &#34;B&#34; &#60;script&#62;');
    expect(mail.html).toContain('href="https://aviary.example.com/account/verify-email#secret-0"');
    await expect.poll(kept).toEqual([]);
  });

  test('nothing is sent of what was undone, or has nobody to go to', async () => {
    const mailer = createMailer(server.settings);
    const undone = database.transaction(async (unit) => {
      const mail = { kind: 'note', to: parseEmail(to), subjectId: newId('team'), expiresAt: new Date(clock.now() + 1) };
      await mailer.queue(unit, mail);
      throw new Error('undo');
    });
    await expect(undone).rejects.toThrow('undo');
    await queue(mailer, { names: { gone: 'yes' } as never });
    await mailer.runOnce();
    expect([await kept(), server.received, composed]).toEqual([[], [], []]);
  });

  test('a server that is down and comes back gets the mail then, with a token of its own', async () => {
    const { settings } = server;
    await server[Symbol.asyncDispose]();
    const mailer = createMailer(settings);
    await queue(mailer);
    await mailer.runOnce();
    expect(await kept()).toMatchObject([
      { state: 'waiting', attempts: 1, last_error: expect.stringContaining('REFUSED') },
    ]);
    server = await startMailServer({ port: settings.port });
    await mailer.runOnce();
    expect(server.received).toEqual([]);
    await clock.advance(defaultMailerOptions.minRetryMs);
    await mailer.runOnce();
    expect((await server.mailTo(to)).link).toContain('#secret-1');
    expect(await kept()).toEqual([]);
  });

  test('an address that the server refuses for good is given up, one that it refuses for now is tried again', async () => {
    const mailer = createMailer(server.settings);
    server.refusal = { code: 550, text: 'no such user' };
    await queue(mailer);
    await mailer.runOnce();
    expect(await kept()).toMatchObject([
      { state: 'failed', attempts: 1, last_error: expect.stringContaining('no such user') },
    ]);
    server.refusal = { code: 451, text: 'greylisted' };
    await queue(mailer, { address: 'later@example.com' });
    await mailer.runOnce();
    server.refusal = undefined;
    await clock.advance(defaultMailerOptions.minRetryMs);
    await mailer.runOnce();
    await server.mailTo('later@example.com');
  });

  test('a mail whose time is over, or that was tried too often, is given up and then forgotten', async () => {
    const mailer = createMailer(server.settings, { maxAttempts: 2 });
    server.refusal = { code: 451, text: 'not now' };
    await queue(mailer, { ttlMs: 1_000 });
    await queue(mailer);
    for (let i = 0; i < 3; i++) {
      await mailer.runOnce();
      await clock.advance(hourMs);
    }
    expect((await kept()).map(({ state }) => state)).toEqual(['failed', 'failed']);
    await clock.advance(defaultMailerOptions.keptMs + 24 * hourMs);
    await mailer.runOnce();
    expect([await kept(), server.received]).toEqual([[], []]);
  });

  test('nothing is said to a server without TLS where TLS is asked for', async () => {
    const login = { user: 'aviary', password: 'secret' };
    const mailer = createMailer({ ...server.settings, tls: 'starttls', login });
    await queue(mailer);
    await mailer.runOnce();
    expect(await kept()).toMatchObject([{ state: 'waiting', last_error: expect.stringContaining('STARTTLS') }]);
    expect(server.received).toEqual([]);
  });
});

describe('over TLS', () => {
  const login = { user: 'aviary', password: 'a % secret' };
  let server: TestMailServer;
  const authorities = getCACertificates();
  let certificate: TestCertificate;
  beforeAll(async () => {
    certificate = await makeCertificate('localhost');
  });
  beforeEach(async () => {
    server = await startMailServer({ login, certificate });
  });
  afterEach(async () => {
    setDefaultCACertificates(authorities);
    await server[Symbol.asyncDispose]();
  });
  const settings = (given = login): SmtpSettings => ({
    ...server.settings,
    host: 'localhost',
    tls: 'starttls',
    login: given,
  });

  test('a mail goes to a server that shows who it is, from who logs in', async () => {
    setDefaultCACertificates([...authorities, certificate.cert]);
    await queue(createMailer(settings()));
    expect((await server.mailTo(to)).from).toBe('aviary@example.com');
    const wrong = createMailer(settings({ ...login, password: 'wrong' }));
    await queue(wrong);
    await wrong.runOnce();
    expect(await kept()).toMatchObject([{ state: 'waiting', last_error: expect.stringContaining('wrong password') }]);
  });

  test('nothing is said to a server whose certificate nobody vouches for', async () => {
    const mailer = createMailer(settings());
    await queue(mailer);
    await mailer.runOnce();
    expect(await kept()).toMatchObject([{ state: 'waiting', last_error: expect.stringMatching(/self[- ]signed/) }]);
    expect(server.received).toEqual([]);
  });
});

test.each([
  ['never greets', () => undefined],
  [
    'says a little for ever',
    (socket: Socket) => {
      const timer = setInterval(() => socket.write('220-wait\r\n'), 20);
      socket.on('close', () => clearInterval(timer));
    },
  ],
])('a server that %s holds up nobody, and its connections are cut', async (_how, greet) => {
  using server = await startSilentServer(greet);
  const mailer = createMailer(server.settings, { sendMs: 200, parallel: 1 });
  await queue(mailer);
  await queue(mailer, { address: 'other@example.com' });
  await mailer.runOnce();
  expect((await kept()).map(({ state }) => state)).toEqual(['waiting', 'waiting']);
  await expect.poll(() => server.sockets.size).toBe(0);
});

test('a stop cuts what is under way, and leaves it to the next replica at once', async () => {
  using silent = await startSilentServer();
  const stopped = createMailer(silent.settings);
  const stop = new AbortController();
  const running = stopped.run(stop.signal);
  await queue(stopped);
  await expect.poll(() => silent.sockets.size).toBe(1);
  stop.abort();
  await running;
  await using server = await startMailServer();
  await createMailer(server.settings).runOnce();
  await server.mailTo(to);
});

test('without a mail server the link is one line of the log, and the mail stays for administrators to see', async () => {
  const lines: string[] = [];
  const logger = createLogger({ name: 'test' }).child({}, { level: 'info' });
  logger.warn = ((_facts: object, text: string) => lines.push(text)) as never;
  const mailer = createMailer(undefined, {}, logger);
  await queue(mailer);
  await mailer.runOnce();
  expect(lines).toEqual([
    `no mail server is set (AVIARY_SMTP_URL); hand this link to ${to} ("For Birds"): https://aviary.example.com/account/verify-email#secret-0`,
  ]);
  expect(await kept()).toMatchObject([{ state: 'logged', email: to }]);
});
