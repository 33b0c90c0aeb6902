import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { SMTPServer } from 'smtp-server';
import { expect } from 'vitest';
import type { SmtpSettings } from './smtp-transport.ts';
import type { TestCertificate } from './test-certificate.ts';

/** A mail as it came over the wire. */
export interface ReceivedMail {
  from: string;
  to: string[];
  subject: string;
  text: string;
  html: string;
  /** The link in the text. */
  link: string;
}

/** For tests: a real SMTP server that keeps what it is given. */
export interface TestMailServer extends AsyncDisposable {
  settings: SmtpSettings;
  received: ReceivedMail[];
  /** What it answers to a recipient, e.g. `550 no such user`; undefined takes them. */
  refusal: { code: number; text: string } | undefined;
  /** The mail to `address` once it is there, the first of them with `part` in its subject; it is taken out. */
  mailTo(address: string, part?: string): Promise<ReceivedMail>;
}

/** Listens on loopback, on `port` or one that is free; with `login` it takes mail from who logs in, over TLS with `certificate`. */
export async function startMailServer({
  port = 0,
  login,
  certificate,
}: {
  port?: number;
  login?: { user: string; password: string };
  certificate?: TestCertificate;
} = {}): Promise<TestMailServer> {
  const received: ReceivedMail[] = [];
  const smtp = new SMTPServer({
    authOptional: !login,
    ...certificate,
    disabledCommands: certificate ? [] : ['STARTTLS'],
    onAuth: ({ username, password }, _session, callback) => {
      const isRight = username === login?.user && password === login?.password;
      callback(isRight ? null : new Error('wrong password'), { user: username });
    },
    onRcptTo: (_address, _session, callback) => {
      const { refusal } = server;
      callback(refusal && Object.assign(new Error(refusal.text), { responseCode: refusal.code }));
    },
    onData: (stream, { envelope }, callback) => {
      void text(stream).then((raw) => {
        const from = envelope.mailFrom ? envelope.mailFrom.address : '';
        received.push({ from, to: envelope.rcptTo.map(({ address }) => address), ...readMessage(raw) });
        callback();
      });
    },
  });
  smtp.listen(port, '127.0.0.1');
  await once(smtp.server, 'listening');
  const server: TestMailServer = {
    settings: {
      host: '127.0.0.1',
      port: (smtp.server.address() as AddressInfo).port,
      tls: 'none',
      from: 'Aviary <aviary@example.com>',
    },
    received,
    refusal: undefined,
    async mailTo(address, part = '') {
      const find = () => received.findIndex(({ to, subject }) => to.includes(address) && subject.includes(part));
      await expect.poll(find, { message: `a mail to ${address}`, timeout: 10_000 }).toBeGreaterThanOrEqual(0);
      const [mail] = received.splice(find(), 1);
      if (!mail) throw new Error('somebody else took the mail');
      return mail;
    },
    [Symbol.asyncDispose]: () => new Promise((resolve) => smtp.close(resolve)),
  };
  return server;
}

function readMessage(raw: string): Pick<ReceivedMail, 'subject' | 'text' | 'html' | 'link'> {
  const [, boundary = ''] = /boundary="([^"]+)"/.exec(raw) ?? [];
  const part = (type: string) => {
    const found = raw.split(`--${boundary}`).find((each) => each.includes(`Content-Type: ${type}`)) ?? '';
    return decode(found);
  };
  const plain = part('text/plain');
  const [, subject = ''] = /^Subject: (.*(?:\r\n[ \t].*)*)/m.exec(raw) ?? [];
  const [link = ''] = /https?:\S+/.exec(plain) ?? [];
  return { subject: decodeWords(subject.replaceAll(/\r\n[ \t]/g, ' ')), text: plain, html: part('text/html'), link };
}

function decode(part: string): string {
  const [head = '', ...body] = part.split('\r\n\r\n');
  const content = body.join('\r\n\r\n');
  if (/base64/i.test(head)) return Buffer.from(content, 'base64').toString('utf8');
  if (!/quoted-printable/i.test(head)) return content.replaceAll('\r\n', '\n');
  return decodeQuoted(content.replaceAll(/=\r\n/g, '')).replaceAll('\r\n', '\n');
}

function decodeQuoted(text: string): string {
  const bytes = text.replaceAll(/=([0-9A-F]{2})/g, (_all, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
  return Buffer.from(bytes, 'latin1').toString('utf8');
}

/** A header's encoded words (RFC 2047). */
function decodeWords(header: string): string {
  return header
    .replaceAll('?= =?', '?==?')
    .replaceAll(/=\?UTF-8\?([QB])\?([^?]*)\?=/gi, (_all, encoding: string, content: string) =>
      encoding.toUpperCase() === 'B'
        ? Buffer.from(content, 'base64').toString('utf8')
        : decodeQuoted(content.replaceAll('_', ' ')),
    );
}
