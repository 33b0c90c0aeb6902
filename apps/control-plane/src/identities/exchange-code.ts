import { createHash } from 'node:crypto';
import type { ExchangeSignInCode } from '@aviary/api-contract';
import { AppError } from '@aviary/core';
import { lockAccount } from '../accounts/account-store.ts';
import { requireActive } from '../accounts/log-in.ts';
import type { Device } from '../accounts/open-session.ts';
import { type SignInResult, signIn } from '../accounts/sign-in.ts';
import { type CodeHolder, consumeSignInCode } from '../accounts/sign-in-code-store.ts';
import type { IdentityDeps } from './identity-deps.ts';
import { logInMethod } from './identity-providers.ts';

/** Signs in whom a code is for. Throws `unauthorized` for one that is not good, or not for who shows it. */
export async function exchangeCode(
  deps: IdentityDeps,
  { code, holder }: { code: string; holder: CodeHolder },
  device: Device,
): Promise<SignInResult> {
  const now = new Date(deps.clock.now());
  return await deps.database.transaction(async ({ db }) => {
    const found = await consumeSignInCode(db, { code, holder, now });
    if (!found) throw badCode();
    const account = await lockAccount(db, found.user_id);
    requireActive(account);
    return signIn(deps, db, { account, method: logInMethod({ id: found.provider }), device, now });
  });
}

/** Who shows a code: the program that knows the verifier, or else the browser with the cookie. Throws `unauthorized` when it is neither. */
export function readHolder({ code_verifier: verifier }: ExchangeSignInCode, browser: string | undefined): CodeHolder {
  if (verifier !== undefined) return { codeChallenge: createHash('sha256').update(verifier).digest('base64url') };
  if (browser !== undefined) return { browser };
  throw badCode();
}

function badCode(): AppError {
  return new AppError(
    'unauthorized',
    'the code is unknown, used or expired, or not for this browser or program; begin to sign in again',
  );
}
