import { EnvReader } from '@aviary/service-kit';
import { expect, test } from 'vitest';
import { readSmtpSettings } from './smtp-settings.ts';

const from = 'Aviary <aviary@example.com>';
const read = (url: string | undefined, mailFrom: string | undefined = from) =>
  readSmtpSettings(new EnvReader({ AVIARY_SMTP_URL: url, AVIARY_MAIL_FROM: mailFrom }));

test.each([
  ['smtp://mail.example.com', { host: 'mail.example.com', port: 587, tls: 'starttls' }],
  ['smtps://mail.example.com', { host: 'mail.example.com', port: 465, tls: 'implicit' }],
  ['smtp://localhost:25', { host: 'localhost', port: 25, tls: 'none' }],
  ['smtp://[::1]:25?tls=starttls', { host: '::1', port: 25, tls: 'starttls' }],
  ['smtp://relay.example.com:25?tls=none', { host: 'relay.example.com', port: 25, tls: 'none' }],
  ['smtp://a%40b:p%25w@mail.example.com', { login: { user: 'a@b', password: 'p%w' }, tls: 'starttls' }],
])('%s is understood', (url, expected) => {
  expect(read(url)).toMatchObject({ ...expected, from });
});

test('nothing set is no mail', () => {
  expect(read(undefined)).toBeUndefined();
});

test.each([
  ['https://user:secret@mail.example.com', from, 'AVIARY_SMTP_URL'],
  ['user:secret@mail.example.com', from, 'AVIARY_SMTP_URL'],
  ['smtp://user:secret@mail.example.com?tls=maybe', from, 'AVIARY_SMTP_URL'],
  ['smtp://user:secret%zz@mail.example.com', from, 'AVIARY_SMTP_URL'],
  ['smtp://user:secret@mail.example.com', '', 'AVIARY_MAIL_FROM'],
  ['smtp://user:secret@mail.example.com', 'Aviary', 'AVIARY_MAIL_FROM'],
  ['smtp://user:secret@mail.example.com', 'a@b.example\r\nBcc: c@d.example', 'AVIARY_MAIL_FROM'],
])('%s from %j is refused by name, and no password is told', (url, mailFrom, field) => {
  const error = (() => {
    try {
      return read(url, mailFrom);
    } catch (thrown) {
      return thrown as Error;
    }
  })();
  expect(error).toMatchObject({ code: 'invalid_request', details: { field } });
  expect((error as Error).message).not.toContain('secret');
});
