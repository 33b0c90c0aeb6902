import { AppError, platformTeamId, type UserId } from '@aviary/core';
import { recordAudit } from '../audit/audit-store.ts';
import type { Actor, Db } from '../context.ts';
import type { SigningKey } from '../hosts/signing-key.ts';
import { hashRecoveryCode } from './recovery-codes.ts';
import { openSecret } from './seal-secret.ts';
import { consumeRecoveryCode, lockTotp, type TotpFactor, updateTotp } from './second-factor-store.ts';
import { findStep } from './totp.ts';

/** So many wrong codes an account has in a window; kept in the store, so that replicas and starts give no more. */
const maxFailures = 10;
const failureWindowMs = 15 * 60_000;

/** By what a second factor was shown. */
export type ShownBy = 'totp' | 'recovery_code';

/** What a code was: a right one, which is used up, or one that is refused. */
export type CodeVerdict = { by: ShownBy } | { refusal: 'wrong' } | { refusal: 'throttled'; retryAfterSec: number };

export interface CodeAttempt {
  userId: UserId;
  code: string;
  /** Who tries: for the audit log. */
  actor: Actor;
  now: Date;
}

/**
 * Looks at a code for the second factor of an account, and uses it up. Refusals are results: the caller's transaction must be kept, for
 * it counts them.
 */
export async function checkCode(
  { signingKey }: { signingKey: SigningKey },
  db: Db,
  { userId, code, actor, now }: CodeAttempt,
): Promise<CodeVerdict> {
  const factor = await lockTotp(db, userId);
  if (!factor) return { refusal: 'wrong' };
  const failures = recentFailures(factor, now);
  if (failures.count >= maxFailures) {
    const endsAt = failures.since.getTime() + failureWindowMs;
    return { refusal: 'throttled', retryAfterSec: Math.ceil((endsAt - now.getTime()) / 1000) };
  }
  const by = await useCode({ signingKey }, db, { userId, code, now, factor });
  if (by) {
    await updateTotp(db, userId, { failures: 0, failures_since: null });
    if (by === 'recovery_code') await tell(db, { action: 'user.recovery_code_use', userId, actor });
    return { by };
  }
  await updateTotp(db, userId, { failures: failures.count + 1, failures_since: failures.since });
  await tell(db, { action: 'user.second_factor_failed', userId, actor });
  return { refusal: 'wrong' };
}

async function useCode(
  { signingKey }: { signingKey: SigningKey },
  db: Db,
  { userId, code, now, factor }: Pick<CodeAttempt, 'userId' | 'code' | 'now'> & { factor: TotpFactor },
): Promise<ShownBy | undefined> {
  const digits = code.replaceAll(/\s/g, '');
  if (/^\d{6}$/.test(digits)) {
    const secret = openSecret(signingKey, userId, factor.sealed_secret);
    const step = findStep({ secret, code: digits, now });
    // A code that somebody has looked at over a shoulder, or from the wire, is good no more.
    if (step === undefined || step <= factor.last_step) return undefined;
    await updateTotp(db, userId, { last_step: step });
    return 'totp';
  }
  const hash = hashRecoveryCode(code);
  return hash !== undefined && (await consumeRecoveryCode(db, userId, hash)) ? 'recovery_code' : undefined;
}

function recentFailures({ failures, failures_since: since }: TotpFactor, now: Date): { count: number; since: Date } {
  if (since && now.getTime() - since.getTime() < failureWindowMs) return { count: failures, since };
  return { count: 0, since: now };
}

async function tell(
  db: Db,
  entry: { action: 'user.recovery_code_use' | 'user.second_factor_failed'; userId: UserId; actor: Actor },
): Promise<void> {
  const { action, userId, actor } = entry;
  await recordAudit(db, { teamId: platformTeamId, actor, action, resourceId: userId });
}

/** What to tell of a code that was refused: `rate_limited`, or `code` where it was wrong. */
export function codeRefused(
  verdict: Exclude<CodeVerdict, { by: ShownBy }>,
  code: 'unauthorized' | 'forbidden',
): AppError {
  if (verdict.refusal === 'throttled') {
    const { retryAfterSec } = verdict;
    return new AppError('rate_limited', 'too many wrong codes; wait before you try again', { retryAfterSec });
  }
  return new AppError(code, 'the code is wrong or was used before; wait for the next one, or use a recovery code', {
    details: { field: 'code' },
  });
}
