import { platformTeamId, type UserId } from '@aviary/core';
import { anonymizePerson } from '../audit/audit-person-store.ts';
import { recordAudit } from '../audit/audit-store.ts';
import type { Db, ServiceContext } from '../context.ts';
import { deleteAccountRow, listAccountsDeletedBefore, lockDeletedAccount } from './deletion-store.ts';

const dayMs = 24 * 3_600_000;
/** So long a deleted account can be restored. */
export const restorableDays = 15;
/** Accounts that are purged in one round. */
const batch = 100;
const actor = { type: 'system', id: null, name: 'account deletion' } as const;

/**
 * Purges accounts whose time is over, each in a transaction of its own: the person is taken out of all logs, and the row goes with all that
 * hangs on it. What was in their teams is cleared away by itself, also from hosts that are still away. One that fails stays for the next
 * round.
 */
export async function purgeAccounts({
  database,
  clock,
  logger,
}: Pick<ServiceContext, 'database' | 'clock' | 'logger'>): Promise<void> {
  const before = new Date(clock.now() - restorableDays * dayMs);
  for (const userId of await listAccountsDeletedBefore(database.db, before, batch)) {
    await database
      .transaction(({ db }) => purgeAccount(db, userId, before))
      .catch((error: unknown) => logger.warn({ userId, err: error }, 'a deleted account is not purged yet'));
  }
}

async function purgeAccount(db: Db, userId: UserId, before: Date): Promise<void> {
  const account = await lockDeletedAccount(db, userId);
  // Restored meanwhile, or another replica was there before.
  if (!account || account.deleted_at > before) return;
  await recordAudit(db, { teamId: platformTeamId, actor, action: 'user.purge', resourceId: null });
  await anonymizePerson(db, { userId, email: account.email, before: account.deleted_at });
  await deleteAccountRow(db, account);
}
