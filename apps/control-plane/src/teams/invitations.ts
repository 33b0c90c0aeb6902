import type { AddedMember } from '@aviary/api-contract';
import { AppError, type Email, parseEmail, type TeamId, type TeamRole } from '@aviary/core';
import type { UnitOfWork } from '@aviary/database';
import { recordAudit } from '../audit/audit-store.ts';
import type { Db } from '../context.ts';
import type { MemberCaller, UserCaller } from '../http/register-routes.ts';
import type { Mailer } from '../mail/mailer.ts';
import { findInvitation, insertInvitation, markAccepted } from './invitation-store.ts';
import { findMember, findVerifiedUser, isMemberByEmail } from './member-store.ts';
import { holdTeam, joinTeam } from './membership.ts';
import { invitationMail, memberAddedMail } from './team-mails.ts';
import { lockTeam, type TeamRow } from './team-store.ts';
import { viewInvitation, viewMember } from './team-view.ts';
import { withdrawInvitations } from './withdraw-invitations.ts';

const invitationMs = 7 * 24 * 3600 * 1000;

/**
 * Puts somebody into the team whose address is known to be theirs; anybody else is invited. An account whose address nobody has
 * verified is nobody's proof: it may be made by another person. The invitation goes by mail; where the platform sends none, who invites gets its token.
 */
export async function addMember(
  unit: UnitOfWork,
  caller: MemberCaller,
  {
    email,
    role,
    now,
    mailer,
  }: { email: Email; role: Exclude<TeamRole, 'owner'>; now: Date; mailer: Pick<Mailer, 'isOn' | 'queue'> },
): Promise<AddedMember> {
  const { db } = unit;
  const { team, userId: invitedBy } = await holdTeam(db, caller, 'admin');
  const { teamId, actor } = caller;
  const names = { team: team.name, by: actor.name };
  if (await isMemberByEmail(db, teamId, email.key)) {
    throw new AppError('already_exists', `${email.address} is in the team already`, { details: { field: 'email' } });
  }
  await withdrawInvitations(db, { teamId, emailKey: email.key, actor, now });
  const user = await findVerifiedUser(db, email.key);
  if (user) {
    const member = await joinTeam(db, { teamId, userId: user.id, role });
    const metadata = { email: user.email, role };
    await recordAudit(db, { teamId, actor, action: 'member.add', resourceId: user.id, metadata });
    await mailer.queue(unit, memberAddedMail(email, { teamId, now }, names));
    return { member: viewMember(member), invitation: null, token: null };
  }
  const expiresAt = new Date(now.getTime() + invitationMs);
  const { row, token } = await insertInvitation(db, { teamId, email, role, invitedBy, now, expiresAt });
  const metadata = { email: email.address, role };
  await recordAudit(db, { teamId, actor, action: 'invitation.create', resourceId: row.id, metadata });
  if (mailer.isOn) await mailer.queue(unit, invitationMail(email, { id: row.id, expiresAt }, names));
  return { member: null, invitation: viewInvitation(row), token: mailer.isOn ? null : token };
}

/** Makes the caller a member of the team that invited their address. The token is good once. */
export async function acceptInvitation(
  { db }: UnitOfWork,
  { userId, email, actor }: UserCaller,
  { token, now }: { token: string; now: Date },
): Promise<{ team: TeamRow; role: TeamRole }> {
  const invitation = await findInvitation(db, token, now);
  const team = invitation && (await lockTeam(db, invitation.team_id));
  if (!invitation || !team) throw noSuchInvitation();
  if (invitation.email_key !== parseEmail(email).key) {
    throw new AppError('forbidden', 'this invitation is for another address than the one of your account');
  }
  if (await isMember(db, team.id, userId)) throw new AppError('already_exists', 'you are in the team already');
  if (!(await markAccepted(db, invitation.id, now))) throw noSuchInvitation();
  const { role } = await joinTeam(db, { teamId: team.id, userId, role: invitation.role });
  const metadata = { email, role };
  await recordAudit(db, { teamId: team.id, actor, action: 'invitation.accept', resourceId: invitation.id, metadata });
  return { team, role };
}

async function isMember(db: Db, teamId: TeamId, userId: UserCaller['userId']): Promise<boolean> {
  return (await findMember(db, teamId, userId)) !== undefined;
}

function noSuchInvitation(): AppError {
  return new AppError('not_found', 'there is no such invitation; it may have been used, revoked, or have expired');
}
