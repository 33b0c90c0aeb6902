import { asId, type Email, type InvitationId, type TeamId } from '@aviary/core';
import type { MailKind, NewMail } from '../mail/mail-kind.ts';
import { renewInvitationToken } from './invitation-store.ts';

const noticeMs = 24 * 3600 * 1000;

/** Names in a mail about a team: the team's, and who asks or adds. */
interface Names {
  team: string;
  by: string;
}

/** What a module of teams has to write to people. */
export const teamMails: readonly MailKind[] = [
  {
    kind: 'invitation',
    compose: async ({ subjectId, names }, { db, now, link }) => {
      const invitation = await renewInvitationToken(db, asId('invitation', subjectId), now);
      if (!invitation) return undefined;
      return {
        subject: `Invitation to the team ${names['team']}`,
        paragraphs: [`${names['by']} invites you to the team "${names['team']}" on Aviary, as ${invitation.role}.`],
        link: { label: 'Accept the invitation', url: link('invitation', invitation.token) },
        closing: `It is good once, until ${invitation.expiresAt.toUTCString()}, for an account with this address. If you do not know who invites you, do nothing.`,
      };
    },
  },
  {
    kind: 'member_added',
    compose: async ({ names }) => ({
      subject: `You are in the team ${names['team']}`,
      paragraphs: [
        `${names['by']} has put you into the team "${names['team']}" on Aviary.`,
        'If that is a mistake, leave it again: nobody needs to agree.',
      ],
    }),
  },
];

export function invitationMail(to: Email, invitation: { id: InvitationId; expiresAt: Date }, names: Names): NewMail {
  const { id: subjectId, expiresAt } = invitation;
  return { kind: 'invitation', to, subjectId, expiresAt, names: { ...names } };
}

export function memberAddedMail(to: Email, { teamId, now }: { teamId: TeamId; now: Date }, names: Names): NewMail {
  const expiresAt = new Date(now.getTime() + noticeMs);
  return { kind: 'member_added', to, subjectId: teamId, expiresAt, names: { ...names } };
}
