import type { SignedIn } from '@aviary/api-contract';
import { formatId, type SessionId } from '@aviary/core';
import type { Db } from '../context.ts';
import { newSecret, sha256Hex } from '../secrets.ts';
import type { AccountDeps } from './account-deps.ts';
import { type Account, findMembership, type Membership } from './account-store.ts';
import { viewSessionTeam, viewUser } from './account-view.ts';
import { insertRefreshToken, insertSession, revokeOldestSessions } from './session-store.ts';

const dayMs = 24 * 3600 * 1000;
/** A session ends when it was not refreshed for so long, */
const idleMs = 30 * dayMs;
/** and so long after its log-in in any case. */
const lifetimeMs = 90 * dayMs;
/** Open sessions of one user. */
export const maxSessions = 100;

/** What a client is, as it says itself. */
export interface Device {
  userAgent: string;
  ipAddress: string;
}

/** A session as its client gets to know it. */
export interface IssuedSession {
  answer: SignedIn;
  refreshToken: string;
}

/** When a session that began at `createdAt` ends, unless it is refreshed again. */
export function sessionExpiry(createdAt: Date, now: Date): Date {
  return new Date(Math.min(createdAt.getTime() + lifetimeMs, now.getTime() + idleMs));
}

/** Opens a session of `account`, in the transaction that has made sure of them. */
export async function openSession(
  deps: AccountDeps,
  db: Db,
  { account, device, now }: { account: Account; device: Device; now: Date },
): Promise<IssuedSession> {
  const membership = await findMembership(db, { userId: account.id, preferred: null });
  const sessionId = await insertSession(db, {
    userId: account.id,
    teamId: membership?.teamId ?? null,
    ...device,
    now,
    expiresAt: sessionExpiry(now, now),
  });
  await revokeOldestSessions(db, { userId: account.id, kept: maxSessions, now });
  const refreshToken = await issueRefreshToken(db, sessionId, now);
  return { answer: await describeSession(deps, { account, sessionId, membership }), refreshToken };
}

export async function issueRefreshToken(db: Db, sessionId: SessionId, now: Date): Promise<string> {
  const token = newSecret('avys_');
  await insertRefreshToken(db, { sessionId, tokenHash: sha256Hex(token), now });
  return token;
}

/** A session with a new access token. */
export async function describeSession(
  { signingKey }: Pick<AccountDeps, 'signingKey'>,
  { account, sessionId, membership }: { account: Account; sessionId: SessionId; membership: Membership | undefined },
): Promise<SignedIn> {
  const access = await signingKey.signAccessToken(
    { userId: account.id, sessionId, teamId: membership?.teamId ?? null },
    { role: membership?.role ?? null, isAdmin: account.is_admin },
  );
  return {
    access_token: access.token,
    access_token_expires_at: access.expiresAt.toISOString(),
    session_id: formatId('session', sessionId),
    user: viewUser(account),
    team: viewSessionTeam(membership),
  };
}
