import { AppError, hasRole, must, type TeamId, type TeamRole, type UserId } from '@aviary/core';
import type { UnitOfWork } from '@aviary/database';
import { revokeKeys } from '../api-keys/revoke-keys.ts';
import { recordAudit } from '../audit/audit-store.ts';
import type { Actor, Db } from '../context.ts';
import { tellAccessChanged } from '../http/access-change-store.ts';
import type { MemberCaller } from '../http/register-routes.ts';
import { deleteMembers, findMember, insertMember, type MemberRow, setMemberRole } from './member-store.ts';
import { lockTeam, type TeamRow } from './team-store.ts';
import { withdrawInvitations } from './withdraw-invitations.ts';

/** A team whose members nobody else changes until the transaction ends, and what the caller is in it now. */
export interface HeldTeam {
  team: TeamRow;
  role: TeamRole;
  userId: UserId;
}

/**
 * Takes the team for a change of its members, and looks once more whether the caller may: between the first look and this one they
 * may have been demoted, or have handed the team over. Throws `not_found` and `forbidden` as the route itself does.
 */
export async function holdTeam(db: Db, { teamId, via }: MemberCaller, lowest: TeamRole): Promise<HeldTeam> {
  const { userId } = via.user;
  const team = await lockTeam(db, teamId);
  const self = team && (await findMember(db, teamId, userId));
  if (!team || !self) throw new AppError('not_found', 'there is no such team');
  if (!hasRole(self.role, lowest)) {
    throw new AppError('forbidden', `this needs the role ${lowest} in the team; yours is ${self.role}`, {
      details: { role: self.role, needed: lowest },
    });
  }
  return { team, role: self.role, userId };
}

/** Puts somebody with an account into the team; it must be held. */
export async function joinTeam(
  db: Db,
  { teamId, userId, role }: { teamId: TeamId; userId: UserId; role: TeamRole },
): Promise<MemberRow> {
  await insertMember(db, { teamId, userId, role });
  return must(await findMember(db, teamId, userId), 'it was put in by this transaction');
}

export async function changeRole(
  { db }: UnitOfWork,
  caller: MemberCaller,
  { userId, role, now }: { userId: UserId; role: Exclude<TeamRole, 'owner'>; now: Date },
): Promise<MemberRow> {
  const { team } = await holdTeam(db, caller, 'admin');
  const member = await getMember(db, team.id, userId);
  if (member.role === 'owner') throw new AppError('invalid_state', 'the owner stays it until they hand the team over');
  if (member.role === role) return member;
  await setMemberRole(db, { teamId: team.id, userId, role });
  const metadata = { email: member.email, from: member.role, to: role };
  await record(db, caller, { action: 'member.role_update', userId, metadata });
  if (role === 'member')
    await withdrawInvitations(db, { teamId: team.id, invitedBy: userId, actor: caller.actor, now });
  await tellAccessChanged(db, { type: 'user', id: userId });
  return { ...member, role };
}

/** Takes a member out, with the keys and the open invitations that they made in the team. */
export async function removeMember(
  { db }: UnitOfWork,
  caller: MemberCaller,
  { userId, now }: { userId: UserId; now: Date },
): Promise<void> {
  const { team } = await holdTeam(db, caller, 'admin');
  const member = await getMember(db, team.id, userId);
  if (member.role === 'owner') throw new AppError('invalid_state', 'the owner cannot be removed from the team');
  await record(db, caller, { action: 'member.remove', userId, metadata: { email: member.email } });
  await takeOut(db, { teamId: team.id, userId, actor: caller.actor, now });
}

export async function leaveTeam({ db }: UnitOfWork, caller: MemberCaller, now: Date): Promise<void> {
  const { team, role, userId } = await holdTeam(db, caller, 'member');
  if (role === 'owner') {
    throw new AppError(
      'invalid_state',
      'the owner cannot leave the team; hand it over to another member, or delete it',
    );
  }
  await record(db, caller, { action: 'member.leave', userId, metadata: { email: caller.actor.name } });
  await takeOut(db, { teamId: team.id, userId, actor: caller.actor, now });
}

/** Makes another member the owner, and the owner an admin. Of two that run at once, the second is no owner any more. */
export async function transferTeam({ db }: UnitOfWork, caller: MemberCaller, to: UserId): Promise<HeldTeam> {
  const held = await holdTeam(db, caller, 'owner');
  const { team, userId } = held;
  const member = await getMember(db, team.id, to);
  if (to === userId) return held;
  await setMemberRole(db, { teamId: team.id, userId, role: 'admin' });
  await setMemberRole(db, { teamId: team.id, userId: to, role: 'owner' });
  const { teamId, actor } = caller;
  const metadata = { email: member.email };
  await recordAudit(db, { teamId, actor, action: 'team.transfer', resourceId: teamId, metadata });
  await tellAccessChanged(db, { type: 'user', id: userId }, { type: 'user', id: to });
  return { ...held, role: 'admin' };
}

async function getMember(db: Db, teamId: TeamId, userId: UserId): Promise<MemberRow> {
  const member = await findMember(db, teamId, userId);
  if (!member) throw new AppError('not_found', 'there is no such member in the team');
  return member;
}

async function takeOut(
  db: Db,
  { teamId, userId, actor, now }: { teamId: TeamId; userId: UserId; actor: Actor; now: Date },
): Promise<void> {
  await deleteMembers(db, teamId, userId);
  // Who they asked to come may be themselves, by another address.
  await withdrawInvitations(db, { teamId, invitedBy: userId, actor, now });
  await revokeKeys(db, { selection: { createdBy: userId, teamId }, actor, now, cause: 'its maker left the team' });
  await tellAccessChanged(db, { type: 'user', id: userId });
}

async function record(
  db: Db,
  { teamId, actor }: MemberCaller,
  entry: {
    action: 'member.role_update' | 'member.remove' | 'member.leave';
    userId: UserId;
    metadata: object;
  },
): Promise<void> {
  const { action, userId, metadata } = entry;
  await recordAudit(db, { teamId, actor, action, resourceId: userId, metadata });
}
