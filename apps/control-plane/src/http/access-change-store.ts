import type { ApiKeyId, TeamId, UserId } from '@aviary/core';
import { currentTrace } from '@aviary/service-kit';
import { sql } from 'kysely';
import type { Db } from '../context.ts';

/** Told in the transaction that changes who may call. */
export const accessChannel = 'aviary_access_changed';

/** Whose right to call has changed: all calls by a key, by a person, or in the name of a team. */
export type AccessSubject =
  | { type: 'api_key'; id: ApiKeyId }
  | { type: 'user'; id: UserId }
  | { type: 'team'; id: TeamId };

/** A subject as notices name it. */
export const subjectName = ({ type, id }: AccessSubject) => `${type}:${id}`;

/**
 * Tells every replica, once the transaction is kept, that the right of these to call has changed: what they have open is looked
 * at again, and ended when it would not be let in now. The request that makes the change is left to its answer.
 */
export async function tellAccessChanged(db: Db, ...subjects: readonly AccessSubject[]): Promise<void> {
  const { requestId = '' } = currentTrace();
  for (const subject of subjects) {
    await sql`SELECT pg_notify(${accessChannel}, ${`${subjectName(subject)} ${requestId}`})`.execute(db);
  }
}
