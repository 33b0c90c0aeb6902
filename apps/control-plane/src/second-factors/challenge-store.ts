import type { UserId } from '@aviary/core';
import type { LogInChallengeTable } from '@aviary/database';
import type { Db } from '../context.ts';
import { sha256Hex } from '../secrets.ts';

/** What a challenge asks for. */
export type ChallengePurpose = LogInChallengeTable['purpose'];

/** A step that somebody is in the middle of. */
export interface Challenge {
  /** Null where it is not known yet who it is. */
  user_id: UserId | null;
  method: string | null;
}

interface Named {
  secret: string;
  purpose: ChallengePurpose;
  now: Date;
}

export async function insertChallenge(
  db: Db,
  challenge: Named & { expiresAt: Date; userId?: UserId; method?: string },
): Promise<void> {
  await db
    .insertInto('log_in_challenges')
    .values({
      token_hash: sha256Hex(challenge.secret),
      purpose: challenge.purpose,
      user_id: challenge.userId ?? null,
      method: challenge.method ?? null,
      created_at: challenge.now,
      expires_at: challenge.expiresAt,
    })
    .execute();
}

export function findChallenge(db: Db, { secret, purpose, now }: Named): Promise<Challenge | undefined> {
  return db
    .selectFrom('log_in_challenges')
    .select(['user_id', 'method'])
    .where('token_hash', '=', sha256Hex(secret))
    .where('purpose', '=', purpose)
    .where('expires_at', '>', now)
    .executeTakeFirst();
}

/** Uses a challenge up: of many that try, one gets it. */
export function consumeChallenge(db: Db, { secret, purpose, now }: Named): Promise<Challenge | undefined> {
  return db
    .deleteFrom('log_in_challenges')
    .where('token_hash', '=', sha256Hex(secret))
    .where('purpose', '=', purpose)
    .where('expires_at', '>', now)
    .returning(['user_id', 'method'])
    .executeTakeFirst();
}

/** Ends the oldest of what a user is in the middle of, beyond `kept`. */
export async function deleteOldestChallenges(
  db: Db,
  { userId, kept }: { userId: UserId; kept: number },
): Promise<void> {
  await db
    .deleteFrom('log_in_challenges')
    .where('token_hash', 'in', (from) =>
      from
        .selectFrom('log_in_challenges')
        .select('token_hash')
        .where('user_id', '=', userId)
        .orderBy('created_at', 'desc')
        .orderBy('token_hash')
        .offset(kept),
    )
    .execute();
}

/** Ends what a user is in the middle of. */
export async function deleteChallenges(db: Db, userId: UserId): Promise<void> {
  await db.deleteFrom('log_in_challenges').where('user_id', '=', userId).execute();
}

export async function deleteExpiredChallenges(db: Db, now: Date): Promise<void> {
  await db.deleteFrom('log_in_challenges').where('expires_at', '<', now).execute();
}
