import { AppError } from '@aviary/core';
import type { EnvReader } from '@aviary/service-kit';
import type { SmtpSettings } from './smtp-transport.ts';

const urlName = 'AVIARY_SMTP_URL';
const fromName = 'AVIARY_MAIL_FROM';
const example = 'smtp://user:password@mail.example.com:587';

/**
 * Reads the mail server from `AVIARY_SMTP_URL`; undefined when it is not set. `smtps:` is TLS from the first byte (port 465), `smtp:` is
 * STARTTLS (port 587), which must succeed; without TLS only with `?tls=none`, or on this machine. Throws `invalid_request` naming the variable, and
 * never the URL, which holds a password.
 */
export function readSmtpSettings(reader: EnvReader): SmtpSettings | undefined {
  const text = reader.optional(urlName);
  if (text === undefined) return undefined;
  const url = URL.parse(text);
  if (!url || !['smtp:', 'smtps:'].includes(url.protocol) || url.hostname === '') {
    throw wrong(urlName, `must be a URL such as ${example}`);
  }
  const from = reader.optional(fromName) ?? '';
  if (!/^[^\r\n]*[^\s@<]+@[^\s@>]+>?$/.test(from)) {
    throw wrong(fromName, 'must be an address such as Aviary <aviary@example.com>');
  }
  const isImplicit = url.protocol === 'smtps:';
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  return {
    host,
    port: url.port === '' ? (isImplicit ? 465 : 587) : Number(url.port),
    tls: isImplicit ? 'implicit' : readStartTls(url, host),
    ...(url.username === '' ? {} : { login: { user: decode(url.username), password: decode(url.password) } }),
    from,
  };
}

function readStartTls(url: URL, host: string): 'starttls' | 'none' {
  const isLocal = ['localhost', '127.0.0.1', '::1'].includes(host);
  const asked = url.searchParams.get('tls') ?? (isLocal ? 'none' : 'starttls');
  if (asked === 'starttls' || asked === 'none') return asked;
  throw wrong(urlName, 'takes ?tls=starttls or ?tls=none, and smtps: for TLS from the first byte');
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw wrong(urlName, 'has a "%" in its user or password that stands for nothing; write it as %25');
  }
}

function wrong(name: string, what: string): AppError {
  return new AppError('invalid_request', `${name} ${what}`, { details: { field: name } });
}
