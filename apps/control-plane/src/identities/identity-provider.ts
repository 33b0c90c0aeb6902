import { AppError } from '@aviary/core';
import { type Clock, withDeadline } from '@aviary/service-kit';
import { AuthorizationResponseError, ClientError, ResponseBodyError } from 'openid-client';
import { SignInFault } from './sign-in-fault.ts';

/** Who somebody is, as a provider says. */
export interface Profile {
  /** What the provider never gives to anybody else. */
  subject: string;
  email: string | null;
  /** Whether the provider vouches that the address is theirs. */
  isEmailVerified: boolean;
  name: string | null;
}

/** What belongs to one sign-in, and comes back with it or not at all. */
export interface SignInSecrets {
  state: string;
  nonce: string;
  /** Of PKCE (RFC 7636), towards the provider. */
  codeVerifier: string;
}

/** Speaks with one server where people sign in. */
export interface ProviderClient {
  /** Where the browser goes. Throws `provider_unavailable`. */
  authorizationUrl(secrets: SignInSecrets, redirectUri: string): Promise<URL>;
  /** Who came back to `url`, the redirect URI with what the provider added. Throws SignInFault. */
  identify(url: URL, secrets: SignInSecrets): Promise<Profile>;
}

export interface ProviderTimes {
  clock: Clock;
  /** Of one request. */
  requestMs: number;
  /** Of all requests of one sign-in. */
  signInMs: number;
}

export const defaultProviderTimes = { requestMs: 5_000, signInMs: 10_000 };

/** Runs what asks a provider, and tells its failures in our words. */
export async function askProvider<T>({ signInMs }: ProviderTimes, ask: () => Promise<T>): Promise<T> {
  try {
    return await withDeadline({ what: 'signing in at the provider', timeoutMs: signInMs }, ask);
  } catch (error) {
    throw error instanceof SignInFault ? error : new SignInFault(faultCode(error), { cause: error });
  }
}

/** That a provider cannot be reached; asking again soon may help. */
export function unavailable(
  name: string,
  { retryAfterSec, cause }: { retryAfterSec: number; cause?: unknown },
): AppError {
  const message = `${name} does not answer as a sign-in provider; try again in a moment, or sign in another way`;
  return new AppError('provider_unavailable', message, { retryAfterSec, cause });
}

function faultCode(error: unknown): 'access_denied' | 'provider_unavailable' | 'provider_refused' {
  if (error instanceof AuthorizationResponseError) {
    if (error.error === 'access_denied') return 'access_denied';
    return ['server_error', 'temporarily_unavailable'].includes(error.error)
      ? 'provider_unavailable'
      : 'provider_refused';
  }
  return isOutage(error) ? 'provider_unavailable' : 'provider_refused';
}

/** Nobody answered in time, or only to say that nobody can now. */
function isOutage(error: unknown): boolean {
  if (error instanceof AppError) return ['provider_unavailable', 'deadline_exceeded'].includes(error.code);
  // What fetch throws for a connection that cannot be made or breaks.
  if (error instanceof TypeError) return true;
  if (error instanceof ResponseBodyError) return isBusy(error.status);
  if (!(error instanceof ClientError)) return false;
  return error.code === 'OAUTH_TIMEOUT' || (error.cause instanceof Response && isBusy(error.cause.status));
}

function isBusy(status: number): boolean {
  return status >= 500 || status === 429;
}
