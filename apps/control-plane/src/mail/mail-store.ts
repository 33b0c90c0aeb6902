import { AppError, type MailId, newId } from '@aviary/core';
import type { MailTable } from '@aviary/database';
import { type Selectable, sql } from 'kysely';
import type { Db } from '../context.ts';
import type { NewMail, StoredMail } from './mail-kind.ts';

/** Mails that wait at once. */
const maxWaiting = 10_000;

/** Leaves a mail to be sent; it replaces one of the kind to the same address about the same. Throws `rate_limited` when too many wait. */
export async function insertMail(db: Db, mail: NewMail, now: Date): Promise<void> {
  const { count } = await db
    .selectFrom((from) =>
      from.selectFrom('mails').select('id').where('state', '=', 'waiting').limit(maxWaiting).as('waiting'),
    )
    .select(sql<number>`count(*)::integer`.as('count'))
    .executeTakeFirstOrThrow();
  if (count >= maxWaiting) {
    throw new AppError('rate_limited', 'too many mails wait to be sent; try again later', { retryAfterSec: 300 });
  }
  const fresh = {
    // A new id: who is at the replaced one finds nothing to settle.
    id: newId('mail'),
    email: mail.to.address,
    payload: JSON.stringify(mail.names ?? {}),
    state: 'waiting',
    attempts: 0,
    next_attempt_at: now,
    last_error: null,
    created_at: now,
    expires_at: mail.expiresAt,
  } as const;
  await db
    .insertInto('mails')
    .values({ ...fresh, kind: mail.kind, email_key: mail.to.key, subject_id: mail.subjectId })
    .onConflict((conflict) => conflict.columns(['kind', 'email_key', 'subject_id']).doUpdateSet(fresh))
    .execute();
}

/** Takes mails that are due, for `leaseMs`: of replicas that ask together, each gets others. Kinds that are not named are left. */
export async function claimDueMails(
  db: Db,
  { kinds, limit, now, leaseMs }: { kinds: readonly string[]; limit: number; now: Date; leaseMs: number },
): Promise<StoredMail[]> {
  if (kinds.length === 0) return [];
  const rows = await db
    .updateTable('mails')
    .set({ attempts: sql<number>`attempts + 1`, next_attempt_at: new Date(now.getTime() + leaseMs) })
    .where('id', 'in', (due) =>
      due
        .selectFrom('mails')
        .select('id')
        .where('state', '=', 'waiting')
        .where('next_attempt_at', '<=', now)
        .where('kind', 'in', kinds)
        .orderBy('next_attempt_at')
        .limit(limit)
        .forUpdate()
        .skipLocked(),
    )
    .returning(['id', 'kind', 'email', 'email_key', 'subject_id', 'payload', 'attempts', 'expires_at'])
    .execute();
  return rows.map((row) => ({
    id: row.id,
    kind: row.kind,
    to: { address: row.email, key: row.email_key },
    subjectId: row.subject_id,
    names: row.payload as Record<string, string>,
    attempts: row.attempts,
    expiresAt: row.expires_at,
  }));
}

/** What came of an attempt; a mail that was replaced meanwhile is left alone. */
export async function settleMail(
  db: Db,
  id: MailId,
  outcome: { state: 'waiting' | 'logged' | 'failed'; error: string | null; nextAttemptAt?: Date },
): Promise<void> {
  await db
    .updateTable('mails')
    .set({
      state: outcome.state,
      last_error: outcome.error,
      ...(outcome.nextAttemptAt ? { next_attempt_at: outcome.nextAttemptAt } : {}),
    })
    .where('id', '=', id)
    .execute();
}

export async function deleteMail(db: Db, id: MailId): Promise<void> {
  await db.deleteFrom('mails').where('id', '=', id).execute();
}

/** Removes mails that were of no use since `before`, whatever became of them. */
export async function deleteOldMails(db: Db, before: Date): Promise<void> {
  await db.deleteFrom('mails').where('expires_at', '<', before).execute();
}

export type MailRow = Omit<Selectable<MailTable>, 'email_key' | 'subject_id' | 'payload'>;

/** Mails that are not sent (yet), newest first. `after` is the last id of the page before. */
export function listMails(db: Db, { limit, after }: { limit: number; after?: MailId }): Promise<MailRow[]> {
  let query = db
    .selectFrom('mails')
    .select(['id', 'kind', 'email', 'state', 'attempts', 'next_attempt_at', 'last_error'])
    .select(['created_at', 'expires_at']);
  if (after !== undefined) query = query.where('id', '<', after);
  return query.orderBy('id', 'desc').limit(limit).execute();
}
