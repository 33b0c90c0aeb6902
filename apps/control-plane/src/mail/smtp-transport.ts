import { errorText } from '@aviary/core';
import { createTransport, type Transporter } from 'nodemailer';
import type { RenderedLetter } from './render-letter.ts';

/** A server that takes our mail, and who it is from. */
export interface SmtpSettings {
  host: string;
  port: number;
  /** `implicit`: from the first byte. `starttls`: before anything is said, or nothing is. `none`: for a server on this machine. */
  tls: 'implicit' | 'starttls' | 'none';
  login?: { user: string; password: string };
  /** e.g. `Aviary <aviary@example.com>`. */
  from: string;
}

/** What became of a mail: `refused` is for good, `unavailable` may be otherwise later. */
export type Delivery = { type: 'sent' } | { type: 'refused' | 'unavailable'; reason: string };

/** What may pass without a word from the server. The whole of it has the deadline of the caller's signal. */
const silenceMs = 10_000;
const maxReasonLength = 300;

/** Hands mails to an SMTP server, each over a connection of its own. */
export class SmtpTransport {
  readonly #transporter: Transporter;
  readonly #from: string;

  constructor({ host, port, tls, login, from }: SmtpSettings) {
    this.#from = from;
    this.#transporter = createTransport({
      host,
      port,
      secure: tls === 'implicit',
      requireTLS: tls === 'starttls',
      ignoreTLS: tls === 'none',
      ...(login ? { auth: { user: login.user, pass: login.password } } : {}),
      connectionTimeout: silenceMs,
      greetingTimeout: silenceMs,
      dnsTimeout: silenceMs,
      socketTimeout: silenceMs,
      socketCloseTimeout: 0,
      maxResponseSize: 64 * 1024,
      disableFileAccess: true,
      disableUrlAccess: true,
    });
  }

  /** Never throws. When `signal` aborts the connection is cut: whether the server took the mail is not known then. */
  async send(to: string, letter: RenderedLetter, signal: AbortSignal): Promise<Delivery> {
    try {
      await this.#transporter.sendMail({
        from: this.#from,
        to: { name: '', address: to },
        ...letter,
        headers: { 'Auto-Submitted': 'auto-generated' },
        signal,
      });
      return { type: 'sent' };
    } catch (error) {
      const reason = errorText(error).slice(0, maxReasonLength);
      return { type: isRefusal(error) ? 'refused' : 'unavailable', reason };
    }
  }
}

/** True when the server says for good (5xx) that it does not take this mail, or the address is none: not for what is wrong between it and us. */
function isRefusal(error: unknown): boolean {
  const { code, responseCode = 500 } = error as { code?: unknown; responseCode?: number };
  return (code === 'EENVELOPE' || code === 'EMESSAGE') && responseCode >= 500;
}
