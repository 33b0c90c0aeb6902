import type { UserId } from '@aviary/core';
import { type RawBuilder, sql } from 'kysely';
import type { Db } from '../context.ts';

/** What the log calls somebody who is gone. */
const deletedUser = 'deleted user';

/**
 * Takes a deleted person out of all logs: their id, name and address, where they did something and where something was done to them. Of
 * entries that have their address alone, those until `before`: it may be another's since. The store lets nobody else be taken out.
 */
export async function anonymizePerson(
  db: Db,
  { userId, email, before }: { userId: UserId; email: string; before: Date },
): Promise<void> {
  const isActor = sql<boolean>`(actor_type = 'user' AND actor_id = ${userId}::text)`;
  const isSubject = sql<boolean>`(resource_type IN ('user', 'member') AND resource_id = ${userId}::text)`;
  const isAddressed = sql<boolean>`(metadata ->> 'email' IS NOT NULL AND lower(metadata ->> 'email') = lower(${email}) AND created_at <= ${before})`;
  const unless = <T>(condition: RawBuilder<boolean>, value: RawBuilder<T>, column: string) =>
    sql<T>`CASE WHEN ${condition} THEN ${value} ELSE ${sql.ref(column)} END`;
  await db
    .updateTable('audit_logs')
    .set({
      actor_id: unless(isActor, sql<string | null>`NULL`, 'actor_id'),
      actor_name: unless(isActor, sql<string>`${deletedUser}`, 'actor_name'),
      resource_id: unless(isSubject, sql<string | null>`NULL`, 'resource_id'),
      metadata: unless(
        sql<boolean>`(${isSubject} OR ${isAddressed})`,
        sql<string>`metadata - 'email' - 'name'`,
        'metadata',
      ),
    })
    .where((where) => where.or([isActor, isSubject, isAddressed]))
    .execute();
}
