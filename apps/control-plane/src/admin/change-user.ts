import { AppError, platformTeamId, type UserId } from '@aviary/core';
import type { UnitOfWork } from '@aviary/database';
import { updateAccount } from '../accounts/account-store.ts';
import { deleteAccount } from '../accounts/delete-account.ts';
import { lockAdmins, lockUser } from '../accounts/deletion-store.ts';
import { revokeSessions } from '../accounts/session-store.ts';
import { revokeKeys } from '../api-keys/revoke-keys.ts';
import { recordAudit } from '../audit/audit-store.ts';
import type { Db } from '../context.ts';
import { tellAccessChanged } from '../http/access-change-store.ts';
import type { UserCaller } from '../http/register-routes.ts';
import type { Mailer } from '../mail/mailer.ts';
import type { ControlPlaneContext } from '../module.ts';
import { removeTotp } from '../second-factors/enrol-totp.ts';
import type { TeamDeletion } from '../teams/team-deletion.ts';
import { pausingMs } from './pause-deactivated.ts';

/** Deactivates somebody, or lets them in again. Keys and sessions that ended stay so. */
export async function setUserActive(
  { db }: UnitOfWork,
  caller: UserCaller,
  { userId, isActive, now }: { userId: UserId; isActive: boolean; now: Date },
): Promise<void> {
  await holdAdmins(db, caller);
  if (userId === caller.userId) throw new AppError('invalid_state', 'nobody deactivates themselves');
  const user = await getUser(db, userId);
  const status = isActive ? 'active' : 'deactivated';
  if (user.status === status) return;
  const pauseUntil = isActive ? null : new Date(now.getTime() + pausingMs);
  await updateAccount(db, userId, { status, pauseUntil, now });
  await recordAudit(db, {
    teamId: platformTeamId,
    actor: caller.actor,
    action: isActive ? 'user.activate' : 'user.deactivate',
    resourceId: userId,
    metadata: { email: user.email },
  });
  if (isActive) return;
  await revokeSessions(db, { userId, reason: 'deactivated', now });
  const cause = 'its maker was deactivated';
  await revokeKeys(db, { selection: { createdBy: userId }, actor: caller.actor, now, cause });
  await tellAccessChanged(db, { type: 'user', id: userId });
}

/** Deletes somebody else's account. */
export async function deleteUser(
  unit: UnitOfWork,
  deps: { teamDeletion: TeamDeletion; mailer: Pick<Mailer, 'queue'> },
  { caller, userId, now }: { caller: UserCaller; userId: UserId; now: Date },
): Promise<void> {
  await holdAdmins(unit.db, caller);
  if (userId === caller.userId) {
    throw new AppError('invalid_state', 'your own account is deleted with DELETE /v1/me, which asks who you are');
  }
  await deleteAccount(unit, deps, { userId, actor: caller.actor, now });
}

/** Makes somebody an administrator, or no longer. One stays, whoever is at it at once. */
export async function setUserAdmin(
  { db }: UnitOfWork,
  caller: UserCaller,
  { userId, isAdmin, now }: { userId: UserId; isAdmin: boolean; now: Date },
): Promise<void> {
  const admins = await holdAdmins(db, caller);
  const user = await getUser(db, userId);
  if (user.is_admin === isAdmin) return;
  if (!isAdmin && admins.every((id) => id === userId)) {
    throw new AppError('invalid_state', 'this is the last administrator; make somebody else one first');
  }
  await updateAccount(db, userId, { isAdmin, now });
  await recordAudit(db, {
    teamId: platformTeamId,
    actor: caller.actor,
    action: 'user.set_admin',
    resourceId: userId,
    metadata: { email: user.email, admin: isAdmin },
  });
  await tellAccessChanged(db, { type: 'user', id: userId });
}

/** Takes away the second factor of somebody who cannot show it any more; without one nothing is done. Throws `invalid_state` for one's own: that takes a proof. */
export async function removeSecondFactor(
  deps: Pick<ControlPlaneContext, 'mailer' | 'clock'>,
  unit: UnitOfWork,
  { caller, userId }: { caller: UserCaller; userId: UserId },
): Promise<void> {
  await holdAdmins(unit.db, caller);
  if (userId === caller.userId) {
    throw new AppError(
      'invalid_state',
      'nobody takes away their own second factor so; disable it in your account instead',
    );
  }
  const { email } = await getUser(unit.db, userId);
  await removeTotp(deps, unit, { userId, email, actor: caller.actor });
}

/** Looks once more, with the administrators held: the caller may have been one no longer since they were let in. */
export async function holdAdmins(db: Db, { userId }: UserCaller): Promise<UserId[]> {
  const admins = await lockAdmins(db);
  if (!admins.includes(userId)) throw new AppError('forbidden', 'this is for administrators of the platform');
  return admins;
}

/** Throws `not_found`. */
export async function getUser(db: Db, userId: UserId) {
  const user = await lockUser(db, userId);
  if (!user) throw new AppError('not_found', 'there is no such person');
  return user;
}
