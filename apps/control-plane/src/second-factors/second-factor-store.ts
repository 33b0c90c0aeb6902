import type { UserId } from '@aviary/core';
import type { Db } from '../context.ts';

export interface TotpFactor {
  sealed_secret: string;
  confirmed_at: Date | null;
  last_step: number;
  failures: number;
  failures_since: Date | null;
}

/** A second factor that is in use. */
export interface SecondFactorStatus {
  confirmed_at: Date;
  recovery_codes_left: number;
}

/** Puts a factor that is not confirmed in the place of one that is not either. False when there is one that is. */
export async function putUnconfirmedTotp(
  db: Db,
  { userId, sealedSecret, now }: { userId: UserId; sealedSecret: string; now: Date },
): Promise<boolean> {
  const row = await db
    .insertInto('totp_factors')
    .values({ user_id: userId, sealed_secret: sealedSecret, created_at: now })
    .onConflict((conflict) =>
      conflict
        .column('user_id')
        .doUpdateSet({ sealed_secret: sealedSecret, created_at: now })
        .where('totp_factors.confirmed_at', 'is', null),
    )
    .returning('user_id')
    .executeTakeFirst();
  return row !== undefined;
}

/** The factor, confirmed or not, kept from others until the transaction ends. */
export function lockTotp(db: Db, userId: UserId): Promise<TotpFactor | undefined> {
  return db
    .selectFrom('totp_factors')
    .select(['sealed_secret', 'confirmed_at', 'last_step', 'failures', 'failures_since'])
    .where('user_id', '=', userId)
    .forUpdate()
    .executeTakeFirst();
}

export async function updateTotp(
  db: Db,
  userId: UserId,
  change: Partial<Omit<TotpFactor, 'sealed_secret'>>,
): Promise<void> {
  await db.updateTable('totp_factors').set(change).where('user_id', '=', userId).execute();
}

/** Removes the factor with its recovery codes. False when there was none in use. */
export async function deleteTotp(db: Db, userId: UserId): Promise<boolean> {
  const row = await db
    .deleteFrom('totp_factors')
    .where('user_id', '=', userId)
    .where('confirmed_at', 'is not', null)
    .returning('user_id')
    .executeTakeFirst();
  return row !== undefined;
}

/** The second factor of an account; undefined when it has none, or one that is not confirmed. */
export async function findSecondFactor(db: Db, userId: UserId): Promise<SecondFactorStatus | undefined> {
  const row = await db
    .selectFrom('totp_factors')
    .select('confirmed_at')
    .select((select) =>
      select
        .selectFrom('recovery_codes')
        .select(({ fn }) => fn.countAll<number>().as('left'))
        .whereRef('recovery_codes.user_id', '=', 'totp_factors.user_id')
        .as('left'),
    )
    .where('user_id', '=', userId)
    .where('confirmed_at', 'is not', null)
    .executeTakeFirst();
  return row?.confirmed_at ? { confirmed_at: row.confirmed_at, recovery_codes_left: Number(row.left) } : undefined;
}

/** Puts codes in the place of all that there were. */
export async function replaceRecoveryCodes(db: Db, userId: UserId, hashes: readonly string[]): Promise<void> {
  await db.deleteFrom('recovery_codes').where('user_id', '=', userId).execute();
  await db
    .insertInto('recovery_codes')
    .values(hashes.map((code_hash) => ({ user_id: userId, code_hash })))
    .execute();
}

/** Uses a code up. False when there is no such. */
export async function consumeRecoveryCode(db: Db, userId: UserId, codeHash: string): Promise<boolean> {
  const row = await db
    .deleteFrom('recovery_codes')
    .where('user_id', '=', userId)
    .where('code_hash', '=', codeHash)
    .returning('code_hash')
    .executeTakeFirst();
  return row !== undefined;
}
