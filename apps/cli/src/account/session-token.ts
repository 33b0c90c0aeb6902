import { AppError } from '@aviary/core';
import { type AccessTokenSource, AviaryClient, type SignedIn } from '@aviary/sdk';
import { type Credential, lockProfiles, putProfile, readProfiles } from './profile-store.ts';

/** A token is renewed when it has less than this left: the request that it is for takes its time. */
const marginMs = 60_000;

/** What a log-in gave, as it is kept. */
export function sessionCredential({ user, ...session }: SignedIn): Credential & { type: 'session' } {
  if (session.refresh_token === undefined) throw new AppError('internal', 'the server gave no refresh token');
  return {
    type: 'session',
    email: user.email,
    accessToken: session.access_token,
    accessTokenExpiresAt: session.access_token_expires_at,
    refreshToken: session.refresh_token,
  };
}

/**
 * The access token of a profile, renewed when it runs out. One process at a time: a refresh token is good once, and a second use would end
 * the session as stolen.
 */
export function sessionToken({
  file,
  name,
  userAgent,
  mayRenew = true,
}: {
  file: string;
  name: string;
  userAgent: string;
  /** False for who may be gone before the answer comes: it would be lost with the session. */
  mayRenew?: boolean;
}): AccessTokenSource {
  return async (signal) => {
    const known = findSession(file, name).credential;
    if (isFresh(known)) return known.accessToken;
    if (!mayRenew) throw new AppError('unauthorized', 'the session has to be renewed first, by any other command');
    using _lock = await lockProfiles(file, signal);
    const { apiUrl, credential } = findSession(file, name);
    if (isFresh(credential)) return credential.accessToken;
    const signedIn = await new AviaryClient({ apiUrl, userAgent }).accounts.refresh(credential.refreshToken, {
      signal,
    });
    await putProfile(file, name, { apiUrl, credential: sessionCredential(signedIn) });
    return signedIn.access_token;
  };
}

/** Goes on in another team, and keeps what came of it in the profile: whoever uses it is in that team from now on. */
export async function switchSession(
  { file, name, client }: { file: string; name: string; client: AviaryClient },
  teamId: string,
  signal: AbortSignal,
): Promise<SignedIn> {
  const signedIn = await client.accounts.switchTeam(teamId, { signal });
  using _lock = await lockProfiles(file, signal);
  // Another process may have renewed the session meanwhile: its refresh token is the one that counts.
  const { apiUrl, credential } = findSession(file, name);
  const { refreshToken } = credential;
  const kept = sessionCredential({ ...signedIn, refresh_token: refreshToken });
  await putProfile(file, name, { apiUrl, credential: kept });
  return signedIn;
}

function isFresh({ accessTokenExpiresAt }: Credential & { type: 'session' }): boolean {
  return Date.parse(accessTokenExpiresAt) - Date.now() > marginMs;
}

function findSession(file: string, name: string): { apiUrl: string; credential: Credential & { type: 'session' } } {
  const profile = readProfiles(file).profiles[name];
  if (profile?.credential.type !== 'session') {
    throw new AppError('unauthorized', "you have logged out meanwhile; 'aviary login' logs in again");
  }
  return { apiUrl: profile.apiUrl, credential: profile.credential };
}
