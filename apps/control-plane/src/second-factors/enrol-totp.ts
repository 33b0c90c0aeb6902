import { AppError, platformTeamId, type UserId } from '@aviary/core';
import type { UnitOfWork } from '@aviary/database';
import { recordAudit } from '../audit/audit-store.ts';
import type { Actor, Db, ServiceContext } from '../context.ts';
import type { SigningKey } from '../hosts/signing-key.ts';
import type { UserCaller } from '../http/register-routes.ts';
import type { Mailer } from '../mail/mailer.ts';
import { deleteChallenges } from './challenge-store.ts';
import { checkCode, codeRefused } from './check-code.ts';
import { hashRecoveryCode, newRecoveryCodes } from './recovery-codes.ts';
import { sealSecret } from './seal-secret.ts';
import { deleteTotp, lockTotp, putUnconfirmedTotp, replaceRecoveryCodes, updateTotp } from './second-factor-store.ts';
import { securityNotice } from './security-notices.ts';
import { newTotpSecret, otpauthUri } from './totp.ts';

type Deps = Pick<ServiceContext, 'database' | 'clock'> & { signingKey: SigningKey; mailer: Pick<Mailer, 'queue'> };

/** Makes a secret for the user's app; it counts once it is confirmed. Throws `invalid_state` when there is a factor already. */
export async function beginTotp(
  { database, clock, signingKey }: Omit<Deps, 'mailer'>,
  { userId, email }: UserCaller,
  platform: URL,
): Promise<{ secret: string; otpauth_uri: string }> {
  const secret = newTotpSecret();
  const sealedSecret = sealSecret(signingKey, userId, secret);
  const now = new Date(clock.now());
  if (!(await putUnconfirmedTotp(database.db, { userId, sealedSecret, now }))) throw alreadyEnabled();
  return { secret, otpauth_uri: otpauthUri({ secret, email, platform }) };
}

/** Turns the second factor on by a first code, and gives the recovery codes. Throws `forbidden` for a wrong one, `invalid_state`. */
export async function confirmTotp(deps: Deps, caller: UserCaller, code: string): Promise<string[]> {
  const { userId, email, actor } = caller;
  const now = new Date(deps.clock.now());
  const result = await deps.database.transaction(async (unit) => {
    const { db } = unit;
    const factor = await lockTotp(db, userId);
    if (!factor) throw new AppError('invalid_state', 'no app is being set up; begin with POST /v1/me/totp');
    if (factor.confirmed_at) throw alreadyEnabled();
    const verdict = await checkCode(deps, db, { userId, code, actor, now });
    if ('refusal' in verdict) return verdict;
    await updateTotp(db, userId, { confirmed_at: now });
    await recordAudit(db, {
      teamId: platformTeamId,
      actor,
      action: 'user.second_factor_enable',
      resourceId: userId,
      metadata: { method: 'totp' },
    });
    await deps.mailer.queue(unit, securityNotice('second_factor_enabled', { userId, email, now }));
    return { codes: await issueRecoveryCodes(db, caller) };
  });
  if ('refusal' in result) throw codeRefused(result, 'forbidden');
  return result.codes;
}

/** Turns the second factor off. Throws `invalid_state` when there is none. */
export async function disableTotp(deps: Deps, { userId, email, actor }: UserCaller): Promise<void> {
  await deps.database.transaction(async (unit) => {
    if (!(await removeTotp(deps, unit, { userId, email, actor }))) throw notEnabled();
  });
}

/** Takes the second factor of an account away, with its recovery codes, and tells its owner. False when there is none. */
export async function removeTotp(
  { mailer, clock }: Pick<Deps, 'mailer' | 'clock'>,
  unit: UnitOfWork,
  { userId, email, actor }: { userId: UserId; email: string; actor: Actor },
): Promise<boolean> {
  const { db } = unit;
  if (!(await deleteTotp(db, userId))) return false;
  await deleteChallenges(db, userId);
  await recordAudit(db, {
    teamId: platformTeamId,
    actor,
    action: 'user.second_factor_disable',
    resourceId: userId,
    metadata: { method: 'totp' },
  });
  await mailer.queue(unit, securityNotice('second_factor_disabled', { userId, email, now: new Date(clock.now()) }));
  return true;
}

/** Makes new recovery codes; those before are void. Throws `invalid_state` when there is no second factor. */
export async function renewRecoveryCodes({ database }: Pick<Deps, 'database'>, caller: UserCaller): Promise<string[]> {
  const { userId, actor } = caller;
  return await database.transaction(async ({ db }) => {
    if (!(await lockTotp(db, userId))?.confirmed_at) throw notEnabled();
    await recordAudit(db, {
      teamId: platformTeamId,
      actor,
      action: 'user.recovery_codes_renew',
      resourceId: userId,
    });
    return issueRecoveryCodes(db, caller);
  });
}

async function issueRecoveryCodes(db: Db, { userId }: UserCaller): Promise<string[]> {
  const codes = newRecoveryCodes();
  await replaceRecoveryCodes(
    db,
    userId,
    codes.map(hashRecoveryCode).filter((hash) => hash !== undefined),
  );
  return codes;
}

function alreadyEnabled(): AppError {
  return new AppError('invalid_state', 'there is an app already; disable it before you set up another');
}

function notEnabled(): AppError {
  return new AppError('invalid_state', 'this account has no second factor; set one up first');
}
