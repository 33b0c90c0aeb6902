import { AppError, type HostId, uuidv7 } from '@aviary/core';
import { exportJWK, generateKeyPair, importJWK, type JWK, jwtVerify, SignJWT } from 'jose';
import type { Db, ServiceContext } from '../context.ts';
import { findOldestKey, insertFirstKey, type StoredKey } from './signing-key-store.ts';

const algorithm = 'EdDSA';
const issuer = 'aviary';
/** Audience of the tokens that hosts show to us; tokens for a host carry the host's id. */
const controlPlaneAudience = 'aviary-control-plane';
const hostTokenDays = 7;
const agentTokenSec = 600;

/** The platform's Ed25519 key: signs what hosts show us and what we show them. */
export interface SigningKey {
  publicJwk: JWK;
  /** A token for a host agent to call us with. */
  signHostToken(hostId: HostId): Promise<{ token: string; expiresAt: Date }>;
  /** The host that a token belongs to. Throws `unauthorized`. */
  verifyHostToken(token: string): Promise<HostId>;
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
  const sign = (audience: string, subject: string, expiresAt: Date, claims: Record<string, number> = {}) =>
    new SignJWT(claims)
      .setProtectedHeader({ alg: algorithm, kid: id })
      .setIssuer(issuer)
      .setAudience(audience)
      .setSubject(subject)
      .setIssuedAt(Math.floor(clock.now() / 1000))
      .setExpirationTime(expiresAt)
      .sign(privateKey);
  return {
    publicJwk,
    async signHostToken(hostId) {
      const expiresAt = new Date(clock.now() + hostTokenDays * 24 * 3600 * 1000);
      return { token: await sign(controlPlaneAudience, hostId, expiresAt), expiresAt };
    },
    async verifyHostToken(token) {
      try {
        const { payload } = await jwtVerify(token, publicKey, {
          algorithms: [algorithm],
          issuer,
          audience: controlPlaneAudience,
          requiredClaims: ['sub', 'exp'],
          currentDate: new Date(clock.now()),
          clockTolerance: 30,
        });
        return payload.sub as HostId;
      } catch (cause) {
        throw new AppError('unauthorized', 'the host token is not valid or has expired; refresh it', { cause });
      }
    },
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
