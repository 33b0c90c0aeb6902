import type { Email, MailId } from '@aviary/core';
import type { Db } from '../context.ts';

/** What a mail says. Plain text; names that people chose may be in it as they are. */
export interface Letter {
  /** Default: the address that the mail was left for. */
  to?: string;
  subject: string;
  paragraphs: readonly string[];
  /** What its reader is to open. */
  link?: { label: string; url: string };
  closing?: string;
}

/** A mail as whoever causes it leaves it. Holds no secret: a link's token is made when the mail is composed. */
export interface NewMail {
  kind: string;
  to: Email;
  /** A bare id of what it is about; a later mail of the kind to the same address about the same replaces one that waits. */
  subjectId: string;
  /** Names to put into it. */
  names?: Readonly<Record<string, string>>;
  /** Nobody has use for it afterwards. */
  expiresAt: Date;
  /** Sent with the next regular look instead of at once: for a request whose time must not tell what becomes of it. Default: false. */
  isDeferred?: boolean;
}

export interface StoredMail extends Required<Omit<NewMail, 'isDeferred'>> {
  id: MailId;
  /** How often it was begun, this time included. */
  attempts: number;
}

/** Pages that mails lead to, served by `accounts/account-pages.ts`. */
export type LinkedPage = 'verify-email' | 'reset-password' | 'invitation' | 'claim';

export interface ComposeContext {
  /** A transaction: what is written in it is there before the mail is on its way. */
  db: Db;
  now: Date;
  /** False when the link goes to who runs the platform instead: it is no proof then that its user reads the address. */
  isMailed: boolean;
  link(page: LinkedPage, token: string): string;
}

/** One kind of mail that this process can write. */
export interface MailKind {
  kind: string;
  /** Undefined when there is nobody left to write to, or nothing to write about. */
  compose(mail: StoredMail, context: ComposeContext): Promise<Letter | undefined>;
}

/** A link to one of our pages. Its token is in the fragment, which browsers send to no server and put into no referrer. */
export function pageLink(publicUrl: URL, page: LinkedPage, token: string): string {
  return new URL(`/account/${page}#${token}`, publicUrl).href;
}
