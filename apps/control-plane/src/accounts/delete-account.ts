import { AppError, formatId, platformTeamId, type UserId } from '@aviary/core';
import type { UnitOfWork } from '@aviary/database';
import { revokeKeys } from '../api-keys/revoke-keys.ts';
import { recordAudit } from '../audit/audit-store.ts';
import type { Actor } from '../context.ts';
import { tellAccessChanged } from '../http/access-change-store.ts';
import type { Mailer } from '../mail/mailer.ts';
import { deleteMembers } from '../teams/member-store.ts';
import type { TeamDeletion } from '../teams/team-deletion.ts';
import { withdrawInvitations } from '../teams/withdraw-invitations.ts';
import { accountDeletedMail } from './account-mails.ts';
import { type HeldMembership, holdMemberships, lockAdmins, lockUser, markAccountDeleted } from './deletion-store.ts';
import { revokeSessions } from './session-store.ts';

interface AccountDeletion {
  userId: UserId;
  /** The person themselves, or an administrator. */
  actor: Actor;
  now: Date;
}

/**
 * Deletes an account in the caller's transaction: sessions end, keys are revoked, teams that have nobody else are deleted, the others are
 * left. What is left of the account is purged when its time is over. Throws `not_found`, and `invalid_state` for the last administrator
 * and for the owner of a team that has others.
 */
export async function deleteAccount(
  unit: UnitOfWork,
  { teamDeletion, mailer }: { teamDeletion: TeamDeletion; mailer: Pick<Mailer, 'queue'> },
  { userId, actor, now }: AccountDeletion,
): Promise<void> {
  const { db } = unit;
  const admins = await lockAdmins(db);
  const user = await lockUser(db, userId);
  if (!user) throw new AppError('not_found', 'there is no such person');
  if (admins.includes(userId) && admins.length === 1) {
    throw new AppError('invalid_state', 'this is the last administrator; make somebody else one first');
  }
  const memberships = await holdMemberships(db, userId);
  refuseOwnerOfOthers(memberships);
  const owned = memberships.filter(({ role }) => role === 'owner');
  for (const { teamId } of owned) await teamDeletion.deleteTeam(unit, { teamId, actor });
  for (const { teamId, role } of memberships) {
    if (role === 'owner') continue;
    const metadata = { email: user.email, cause: 'the account was deleted' };
    await recordAudit(db, { teamId, actor, action: 'member.leave', resourceId: userId, metadata });
    await deleteMembers(db, teamId, userId);
    await withdrawInvitations(db, { teamId, invitedBy: userId, actor, now });
  }
  await markAccountDeleted(db, userId, now);
  await revokeSessions(db, { userId, reason: 'deleted', now });
  const cause = 'the account of its maker was deleted';
  await revokeKeys(db, { selection: { createdBy: userId }, actor, now, cause });
  await recordAudit(db, {
    teamId: platformTeamId,
    actor,
    action: 'user.delete',
    resourceId: userId,
    metadata: { email: user.email, deleted_teams: owned.map(({ teamId }) => formatId('team', teamId)) },
  });
  await tellAccessChanged(db, { type: 'user', id: userId });
  await mailer.queue(unit, accountDeletedMail({ id: userId, email: user.email }, now));
}

function refuseOwnerOfOthers(memberships: readonly HeldMembership[]): void {
  const blocking = memberships.filter(({ role, members }) => role === 'owner' && members > 1);
  if (blocking.length === 0) return;
  const names = blocking.map(({ name }) => JSON.stringify(name)).join(', ');
  throw new AppError(
    'invalid_state',
    `the account owns teams that have other members: ${names}; hand each one over to one of them, or delete it, and try again`,
    { details: { teams: blocking.map(({ teamId, name }) => ({ id: formatId('team', teamId), name })) } },
  );
}
