import { AppError, platformTeamId, type UserId } from '@aviary/core';
import { isUniqueViolation, type UnitOfWork } from '@aviary/database';
import { recordAudit } from '../audit/audit-store.ts';
import type { Actor } from '../context.ts';
import { lockDeletedAccount, markAccountRestored } from './deletion-store.ts';
import { createOwnTeam } from './sign-up.ts';

/**
 * Opens a deleted account again, in the caller's transaction, with a new team of its own: its teams, keys and sessions are gone. Throws
 * `not_found` once it is purged, and `already_exists` when somebody else has signed up with its address.
 */
export async function restoreAccount(
  { db }: UnitOfWork,
  { userId, actor, now }: { userId: UserId; actor: Actor; now: Date },
): Promise<void> {
  const account = await lockDeletedAccount(db, userId);
  if (!account) throw new AppError('not_found', 'there is no such deleted account; it may be purged');
  const isRestored = await markAccountRestored(db, account, now).catch((error: unknown) => {
    // Somebody signs up in this moment.
    if (isUniqueViolation(error)) return false;
    throw error;
  });
  if (!isRestored) {
    throw new AppError('already_exists', `there is another account with the address ${account.email} by now`);
  }
  await recordAudit(db, {
    teamId: platformTeamId,
    actor,
    action: 'user.restore',
    resourceId: userId,
    metadata: { email: account.email },
  });
  await createOwnTeam(db, account);
}
