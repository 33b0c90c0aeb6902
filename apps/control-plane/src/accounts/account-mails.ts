import { asId, type Email, nilUuid, parseEmail, platformTeamId, type UserId } from '@aviary/core';
import { recordAudit } from '../audit/audit-store.ts';
import type { ComposeContext, Letter, MailKind, NewMail, StoredMail } from '../mail/mail-kind.ts';
import { accountLinks, createLinkToken, type LinkPurpose } from './account-link.ts';
import { type Account, findAccount, findAccountByEmail } from './account-store.ts';
import { restorableDays } from './purge-accounts.ts';

const hourMs = 3_600_000;

/** What a module of accounts has to write to people. */
export const accountMails: readonly MailKind[] = [
  { kind: 'verify_email', compose: composeVerification },
  { kind: 'password_reset', compose: composeReset },
  { kind: 'password_changed', compose: composePasswordChanged },
  { kind: 'account_deleted', compose: composeAccountDeleted },
];

export function verificationMail(account: Account, now: Date): NewMail {
  return { kind: 'verify_email', to: emailOf(account), subjectId: account.id, expiresAt: later(now, 24) };
}

/** To an address that may be nobody's: whether it is somebody's is looked up when nobody waits for it any more. */
export function resetMail(to: Email, now: Date): NewMail {
  return { kind: 'password_reset', to, subjectId: nilUuid, expiresAt: later(now, 1), isDeferred: true };
}

/** Tells the owner of an account that its password is another, for the case that it was not them. */
export function passwordChangedMail(account: Account, now: Date): NewMail {
  return { kind: 'password_changed', to: emailOf(account), subjectId: account.id, expiresAt: later(now, 24) };
}

/** Tells who had an account that it is deleted, for the case that it was not them. */
export function accountDeletedMail(account: { id: UserId; email: string }, now: Date): NewMail {
  return { kind: 'account_deleted', to: parseEmail(account.email), subjectId: account.id, expiresAt: later(now, 24) };
}

async function composeVerification(mail: StoredMail, context: ComposeContext): Promise<Letter | undefined> {
  const account = await findActive(mail, context);
  if (!account || account.email_verified_at !== null) return undefined;
  return {
    to: account.email,
    subject: 'Verify your e-mail address',
    paragraphs: ['Somebody, we hope you, made an account on Aviary with this address.'],
    link: { label: 'Verify the address', url: await makeLink(account, 'email_verification', context) },
    closing:
      'The link is good once, for a day. If it was not you, do nothing: or reset the password of the account, which then is yours alone.',
  };
}

/** For an address that is nobody's the same is written as for one that is somebody's: a busy moment of ours tells nothing either. */
async function composeReset({ to, attempts }: StoredMail, context: ComposeContext): Promise<Letter | undefined> {
  const { db } = context;
  const known = await findAccountByEmail(db, to.key);
  const account = known?.status === 'active' ? known : undefined;
  const url = await makeLink(account, 'password_reset', context);
  if (attempts === 1) {
    await recordAudit(db, {
      teamId: platformTeamId,
      actor: { type: 'system', id: null, name: 'password-reset' },
      action: 'user.password_reset_request',
      resourceId: account?.id ?? null,
    });
  }
  if (!account) return undefined;
  return {
    // As its owner wrote it: who asked may have written it otherwise.
    to: account.email,
    subject: 'Reset your password',
    paragraphs: ['Somebody, we hope you, asked for a new password for your account on Aviary.'],
    link: { label: 'Set a new password', url },
    closing: 'The link is good once, for half an hour, and ends all of your sessions. If it was not you, do nothing.',
  };
}

async function composePasswordChanged(mail: StoredMail, context: ComposeContext): Promise<Letter | undefined> {
  const account = await findActive(mail, context);
  if (!account) return undefined;
  return {
    to: account.email,
    subject: 'Your password was changed',
    paragraphs: [
      'The password of your account on Aviary is a new one. Other sessions than the one in which that was done have ended.',
      'If it was not you, reset the password at once, and tell who runs the platform.',
    ],
  };
}

async function composeAccountDeleted(): Promise<Letter> {
  return {
    subject: 'Your account was deleted',
    paragraphs: [
      'Your account on Aviary was deleted, with the teams in which nobody else was and all that they had.',
      `For ${restorableDays} days who runs the platform can restore the account: ask them, if it was not you who deleted it. After that it is removed for good.`,
    ],
  };
}

async function findActive({ subjectId }: StoredMail, { db }: ComposeContext): Promise<Account | undefined> {
  const account = await findAccount(db, asId('user', subjectId));
  return account?.status === 'active' ? account : undefined;
}

async function makeLink(account: Account | undefined, purpose: LinkPurpose, context: ComposeContext): Promise<string> {
  const { db, isMailed, now } = context;
  const { token } = await createLinkToken(db, { userId: account?.id ?? null, purpose, isMailed, now });
  return context.link(accountLinks[purpose].page, token);
}

const emailOf = (account: Account): Email => ({ address: account.email, key: account.email_key });

const later = (now: Date, hours: number): Date => new Date(now.getTime() + hours * hourMs);
