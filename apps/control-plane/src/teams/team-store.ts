import { newId, type TeamId } from '@aviary/core';
import type { Db } from '../context.ts';

/** The team with that slug, made under that name when there is none. */
export async function ensureTeam(db: Db, { name, slug }: { name: string; slug: string }): Promise<TeamId> {
  await db
    .insertInto('teams')
    .values({ id: newId('team'), name, slug })
    .onConflict((conflict) => conflict.column('slug').doNothing())
    .execute();
  const { id } = await db.selectFrom('teams').select('id').where('slug', '=', slug).executeTakeFirstOrThrow();
  return id;
}
