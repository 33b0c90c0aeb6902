import type { SignInError } from '@aviary/api-contract';
import { AppError, platformTeamId } from '@aviary/core';
import type { UnitOfWork } from '@aviary/database';
import { type CodeHolder, insertSignInCode } from '../accounts/sign-in-code-store.ts';
import { recordAudit } from '../audit/audit-store.ts';
import { type Attempt, consumeAttempt } from './attempt-store.ts';
import type { IdentityDeps } from './identity-deps.ts';
import type { Profile } from './identity-provider.ts';
import { logInMethod, type Provider } from './identity-providers.ts';
import { linkIdentity } from './link-identity.ts';
import { findOrCreateAccount } from './provider-account.ts';
import { faultDetail, SignInFault } from './sign-in-fault.ts';
import { withOutcome } from './sign-in-target.ts';
import { redirectUriOf } from './start-sign-in.ts';

/** Between two requests of one page or program. */
const codeMs = 60_000;

/** A browser that came back from a provider. */
export interface CameBack {
  provider: string;
  /** What the provider added to the redirect URI. */
  search: string;
  state: string;
  /** What its cookie holds; undefined when it has none. */
  browser: string | undefined;
}

/** Where the browser goes, with what came of the sign-in. Throws `invalid_request` for one that did not begin in this browser, or is over. */
export async function finishSignIn(deps: IdentityDeps, cameBack: CameBack): Promise<string> {
  const { database, clock, identityProviders } = deps;
  const provider = identityProviders.get(cameBack.provider);
  const { state, browser } = cameBack;
  const now = new Date(clock.now());
  const attempt = browser && (await consumeAttempt(database.db, { state, browser, provider: provider.id, now }));
  if (!attempt) {
    throw new AppError(
      'invalid_request',
      'this sign-in took too long, was finished before or began in another browser; begin again',
      { details: { field: 'state' } },
    );
  }
  try {
    const outcome = await completeSignIn(deps, { provider, attempt, cameBack: { ...cameBack, browser } });
    return withOutcome(attempt.returnTo, outcome);
  } catch (error) {
    if (!(error instanceof SignInFault)) throw error;
    await tellFault(deps, error, { provider, attempt });
    return withOutcome(attempt.returnTo, { error: error.code, error_description: error.message });
  }
}

/** That somebody changed their mind, or a provider is away, is no try to get in. */
const harmless: readonly SignInError[] = ['access_denied', 'provider_unavailable'];

async function tellFault(
  { database, logger }: IdentityDeps,
  fault: SignInFault,
  { provider, attempt }: { provider: Provider; attempt: Attempt },
): Promise<void> {
  const { code: reason, userId } = fault;
  // The cause may be a mistake in the configuration, of which nobody else is told.
  const detail = faultDetail(fault.cause);
  logger.warn({ provider: provider.id, reason, detail }, 'a sign-in at a provider came to nothing');
  if (attempt.sessionId !== null || harmless.includes(reason)) return;
  await recordAudit(database.db, {
    teamId: platformTeamId,
    actor: { type: 'system', id: null, name: 'log-in' },
    action: 'user.log_in_failed',
    resourceId: userId ?? null,
    metadata: { method: logInMethod(provider), reason },
  });
}

async function completeSignIn(
  deps: IdentityDeps,
  { provider, attempt, cameBack }: { provider: Provider; attempt: Attempt; cameBack: CameBack & { browser: string } },
): Promise<Record<string, string>> {
  const url = new URL(redirectUriOf(deps.accounts.settings.publicUrl, provider));
  url.search = cameBack.search;
  const { nonce, codeVerifier, sessionId, codeChallenge } = attempt;
  const profile = await provider.client.identify(url, { state: cameBack.state, nonce, codeVerifier });
  if (sessionId !== null) {
    await deps.database.transaction((unit) => linkIdentity(deps, unit, { provider, profile, sessionId }));
    return { linked: provider.id };
  }
  const holder: CodeHolder = codeChallenge === null ? { browser: cameBack.browser } : { codeChallenge };
  return { code: await deps.database.transaction((unit) => issueCode(deps, unit, { provider, profile, holder })) };
}

async function issueCode(
  deps: IdentityDeps,
  { db }: UnitOfWork,
  { provider, profile, holder }: { provider: Provider; profile: Profile; holder: CodeHolder },
): Promise<string> {
  const now = new Date(deps.clock.now());
  const userId = await findOrCreateAccount(db, { provider, profile, now });
  const expiresAt = new Date(now.getTime() + codeMs);
  return insertSignInCode(db, { userId, provider: provider.id, holder, now, expiresAt });
}
