import type { SessionId } from '@aviary/core';
import { randomNonce, randomPKCECodeVerifier } from 'openid-client';
import type { AttemptRule } from '../accounts/attempt-limit.ts';
import { networkOf } from '../http/network-of.ts';
import { newSecret } from '../secrets.ts';
import { insertAttempt } from './attempt-store.ts';
import type { IdentityDeps } from './identity-deps.ts';
import type { Provider } from './identity-providers.ts';
import type { SignInTarget } from './sign-in-target.ts';

/** So long somebody may take at the provider. */
export const signInMs = 10 * 60_000;

/** A sign-in that has begun: where the browser goes, and what its cookie is to hold. */
export interface StartedSignIn {
  authorizationUrl: string;
  browser: string;
  expiresAt: Date;
}

/** Begins a sign-in, or for a session to link it. Throws `provider_unavailable`, `rate_limited`. */
export async function startSignIn(
  { database, clock, accounts, identityProviders }: IdentityDeps,
  asked: { provider: string; target: SignInTarget; sessionId: SessionId | null; ipAddress: string },
): Promise<StartedSignIn> {
  const provider = identityProviders.get(asked.provider);
  accounts.attempts.take(startRules(asked.ipAddress));
  const secrets = { state: newSecret('avyo_'), nonce: randomNonce(), codeVerifier: randomPKCECodeVerifier() };
  const redirectUri = redirectUriOf(accounts.settings.publicUrl, provider);
  const { href: authorizationUrl } = await provider.client.authorizationUrl(secrets, redirectUri);
  const browser = newSecret('');
  const now = new Date(clock.now());
  const expiresAt = new Date(now.getTime() + signInMs);
  const { returnTo, codeChallenge } = asked.target;
  const attempt = { provider: provider.id, returnTo, codeChallenge, sessionId: asked.sessionId };
  await insertAttempt(database.db, { ...attempt, ...secrets, browser, now, expiresAt });
  return { authorizationUrl, browser, expiresAt };
}

/** What is registered with the provider. */
export function redirectUriOf(publicUrl: URL, { id }: Pick<Provider, 'id'>): string {
  return new URL(`/v1/auth/providers/${id}/callback`, publicUrl).href;
}

/** Where a browser begins. */
export function startUrlOf(publicUrl: URL, { id }: Pick<Provider, 'id'>): string {
  return new URL(`/v1/auth/providers/${id}/start`, publicUrl).href;
}

/** Each one leaves a row for ten minutes. */
function startRules(ip: string): Record<string, AttemptRule> {
  return { [`provider ip ${networkOf(ip)}`]: { max: 200, windowMs: 15 * 60_000 } };
}
