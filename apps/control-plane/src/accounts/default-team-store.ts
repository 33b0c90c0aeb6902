import { randomBytes } from 'node:crypto';
import { newId, type TeamId, type TeamRole, type UserId } from '@aviary/core';
import type { Db } from '../context.ts';

/** A team of the user's own. Its slug is random and never changes. */
export async function insertOwnTeam(
  db: Db,
  { userId, name }: { userId: UserId; name: string },
): Promise<{ id: TeamId; slug: string }> {
  const team = { id: newId('team'), slug: randomBytes(6).toString('hex') };
  await db
    .insertInto('teams')
    .values({ ...team, name })
    .execute();
  await insertMember(db, { teamId: team.id, userId, role: 'owner' });
  return team;
}

export async function insertMember(
  db: Db,
  { teamId, userId, role }: { teamId: TeamId; userId: UserId; role: TeamRole },
): Promise<void> {
  await db.insertInto('team_members').values({ team_id: teamId, user_id: userId, role }).execute();
}
