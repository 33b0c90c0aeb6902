import type { CompleteLogIn } from '@aviary/api-contract';
import { AppError } from '@aviary/core';
import { consumeChallenge, findChallenge } from '../second-factors/challenge-store.ts';
import { checkCode, codeRefused } from '../second-factors/check-code.ts';
import { securityNotice } from '../second-factors/security-notices.ts';
import type { AccountDeps } from './account-deps.ts';
import { lockAccount } from './account-store.ts';
import { requireActive } from './log-in.ts';
import type { Device, IssuedSession } from './open-session.ts';
import { openSignedIn } from './sign-in.ts';

/** Opens the session of a log-in whose first factor was shown. Throws `unauthorized` for a wrong code, and for a challenge that is not good. */
export async function completeLogIn(
  deps: AccountDeps,
  { challenge: secret, code }: CompleteLogIn,
  device: Device,
): Promise<IssuedSession> {
  const now = new Date(deps.clock.now());
  const named = { secret, purpose: 'second_factor', now } as const;
  const result = await deps.database.transaction(async (unit) => {
    const { db } = unit;
    const challenge = await findChallenge(db, named);
    if (!challenge?.user_id) throw challengeOver();
    const account = await lockAccount(db, challenge.user_id);
    requireActive(account);
    const actor = { type: 'system', id: null, name: 'log-in' } as const;
    const verdict = await checkCode(deps, db, { userId: account.id, code, actor, now });
    if ('refusal' in verdict) return verdict;
    if (!(await consumeChallenge(db, named))) throw challengeOver();
    if (verdict.by === 'recovery_code') {
      const notice = securityNotice('recovery_code_used', { userId: account.id, email: account.email, now });
      await deps.mailer.queue(unit, notice);
    }
    const method = challenge.method ?? 'unknown';
    return { session: await openSignedIn(deps, db, { account, method, secondFactor: verdict.by, device, now }) };
  });
  if ('refusal' in result) throw codeRefused(result, 'unauthorized');
  return result.session;
}

function challengeOver(): AppError {
  return new AppError('unauthorized', 'the challenge is unknown, used or expired; log in again', {
    details: { field: 'challenge' },
  });
}
