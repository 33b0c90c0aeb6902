import { parseEmail, type UserId } from '@aviary/core';
import type { MailKind, NewMail } from '../mail/mail-kind.ts';

const dayMs = 24 * 3_600_000;

/** What the owner of an account is told of, for the case that it was not them. */
const notices = {
  second_factor_enabled: {
    subject: 'Your account asks for a second factor',
    text: 'Logging in to your account on Aviary takes a code of an app from now on, or one of the recovery codes.',
  },
  second_factor_disabled: {
    subject: 'Your account asks for no second factor any more',
    text: 'The app for one-time codes of your account on Aviary was taken out, with its recovery codes.',
  },
  recovery_code_used: {
    subject: 'A recovery code of yours was used',
    text: 'Somebody, we hope you, logged in to your account on Aviary with a recovery code. It is good no more.',
  },
  passkey_added: {
    subject: 'A passkey was added to your account',
    text: 'A new passkey logs in to your account on Aviary.',
  },
  identity_linked: {
    subject: 'Your account is linked with one at a provider',
    text: 'Your account on Aviary can be signed in to at another provider from now on. Your account lists what it is linked with, and unlinks it.',
  },
} as const satisfies Record<string, { subject: string; text: string }>;

export const securityNotices: readonly MailKind[] = Object.entries(notices).map(([kind, { subject, text }]) => ({
  kind,
  compose: async () => ({
    subject,
    paragraphs: [text],
    closing:
      'If it was not you, change your password at once, end your other sessions, and tell who runs the platform.',
  }),
}));

/** The mail that tells the owner of `email` of one of them. */
export function securityNotice(
  kind: keyof typeof notices,
  { userId, email, now }: { userId: UserId; email: string; now: Date },
): NewMail {
  return { kind, to: parseEmail(email), subjectId: userId, expiresAt: new Date(now.getTime() + dayMs) };
}
