import { hkdfSync } from 'node:crypto';
import { AppError, asId, type HostId, type SessionId, type TeamId, type UserId, uuidv7 } from '@aviary/core';
import { exportJWK, generateKeyPair, importJWK, type JWK, type JWTPayload, jwtVerify, SignJWT } from 'jose';
import type { Db, ServiceContext } from '../context.ts';
import { findOldestKey, insertFirstKey, type StoredKey } from './signing-key-store.ts';

const algorithm = 'EdDSA';
const issuer = 'aviary';
/** Audience of the tokens that hosts show to us; tokens for a host carry the host's id. */
const controlPlaneAudience = 'aviary-control-plane';
/** Audience of the tokens that people show to us. */
const apiAudience = 'aviary-api';
const hostTokenDays = 7;
const accessTokenSec = 15 * 60;
const agentTokenSec = 600;

/** What an access token says: who, in which session, in the name of which team. Whether that still holds, the database knows. */
export interface AccessClaims {
  userId: UserId;
  sessionId: SessionId;
  /** Null when the user is in no team. */
  teamId: TeamId | null;
}

/** Further claims, for clients to look at; nothing is decided by them. */
export interface AccessHints {
  role: string | null;
  isAdmin: boolean;
}

/** The platform's Ed25519 key: signs what hosts and people show us and what we show hosts. */
export interface SigningKey {
  publicJwk: JWK;
  /** A token for a host agent to call us with. */
  signHostToken(hostId: HostId): Promise<{ token: string; expiresAt: Date }>;
  /** The host that a token belongs to. Throws `unauthorized`. */
  verifyHostToken(token: string): Promise<HostId>;
  /** A token that a person's client calls the API with for fifteen minutes. */
  signAccessToken(claims: AccessClaims, hints: AccessHints): Promise<{ token: string; expiresAt: Date }>;
  /** What a token said that was shown at `at`. Throws `unauthorized`. */
  verifyAccessToken(token: string, at?: Date): Promise<AccessClaims>;
  /** A key of 32 bytes for one purpose: the same on every replica and after every start. */
  deriveKey(purpose: string): Buffer;
  /** A token for us to call a host agent with, in the name of the leadership that `epoch` counts; good for ten minutes. */
  signAgentToken(hostId: HostId, epoch: number): Promise<string>;
}

/** The stored key, made at first start. Replicas that start together agree on the oldest. */
export async function loadSigningKey({
  database,
  clock,
}: Pick<ServiceContext, 'database' | 'clock'>): Promise<SigningKey> {
  const { id, publicJwk, privateJwk } = (await findOldestKey(database.db)) ?? (await createKey(database.db));
  const [publicKey, privateKey] = await Promise.all([
    importJWK(publicJwk, algorithm),
    importJWK(privateJwk, algorithm),
  ]);
  const sign = (audience: string, subject: string, expiresAt: Date, claims: JWTPayload = {}) =>
    new SignJWT(claims)
      .setProtectedHeader({ alg: algorithm, kid: id })
      .setIssuer(issuer)
      .setAudience(audience)
      .setSubject(subject)
      .setIssuedAt(Math.floor(clock.now() / 1000))
      .setExpirationTime(expiresAt)
      .sign(privateKey);
  const verify = async (token: string, audience: string, at = new Date(clock.now())): Promise<JWTPayload> => {
    const { payload } = await jwtVerify(token, publicKey, {
      algorithms: [algorithm],
      issuer,
      audience,
      requiredClaims: ['sub', 'exp'],
      currentDate: at,
      clockTolerance: 30,
    });
    return payload;
  };
  return {
    publicJwk,
    async signHostToken(hostId) {
      const expiresAt = new Date(clock.now() + hostTokenDays * 24 * 3600 * 1000);
      return { token: await sign(controlPlaneAudience, hostId, expiresAt), expiresAt };
    },
    async verifyHostToken(token) {
      try {
        return asId('host', (await verify(token, controlPlaneAudience)).sub ?? '');
      } catch (cause) {
        throw new AppError('unauthorized', 'the host token is not valid or has expired; refresh it', { cause });
      }
    },
    async signAccessToken({ userId, sessionId, teamId }, { role, isAdmin }) {
      const expiresAt = new Date(clock.now() + accessTokenSec * 1000);
      const claims = { sid: sessionId, team: teamId, role, is_admin: isAdmin };
      return { token: await sign(apiAudience, userId, expiresAt, claims), expiresAt };
    },
    async verifyAccessToken(token, at) {
      try {
        const { sub = '', sid, team } = await verify(token, apiAudience, at);
        return {
          userId: asId('user', sub),
          sessionId: asId('session', String(sid)),
          teamId: team === null ? null : asId('team', String(team)),
        };
      } catch (cause) {
        throw new AppError(
          'unauthorized',
          'the access token is not valid or has expired; refresh it, or log in again',
          {
            cause,
          },
        );
      }
    },
    deriveKey: (purpose) => Buffer.from(hkdfSync('sha256', String(privateJwk.d), '', `aviary ${purpose}`, 32)),
    signAgentToken: (hostId, epoch) =>
      sign(hostId, 'control-plane', new Date(clock.now() + agentTokenSec * 1000), { epoch }),
  };
}

async function createKey(db: Db): Promise<StoredKey> {
  const pair = await generateKeyPair(algorithm, { crv: 'Ed25519', extractable: true });
  const id = uuidv7();
  const publicJwk = { ...(await exportJWK(pair.publicKey)), kid: id, alg: algorithm };
  return insertFirstKey(db, { id, publicJwk, privateJwk: await exportJWK(pair.privateKey) });
}
