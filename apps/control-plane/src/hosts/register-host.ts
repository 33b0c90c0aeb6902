import type { HostCredentials, RegisterHost } from '@aviary/api-contract';
import { AppError, formatId, type HostId, platformTeamId, type TeamId } from '@aviary/core';
import { recordAudit } from '../audit/audit-store.ts';
import type { Db, ServiceContext } from '../context.ts';
import { newSecret, sha256Hex } from '../secrets.ts';
import { getHost, insertHost, registerHostRow } from './host-store.ts';
import {
  consumeHostToken,
  findRefreshToken,
  insertHostToken,
  insertRefreshToken,
  revokeRefreshToken,
  revokeRefreshTokensOf,
} from './host-token-store.ts';
import type { SigningKey } from './signing-key.ts';

const registrationTokenMs = 3600 * 1000;
const refreshTokenMs = 60 * 24 * 3600 * 1000;

type Deps = Pick<ServiceContext, 'database' | 'clock'> & { signingKey: SigningKey };

/** Makes a pending host and the one-time token (1 h) that its agent registers with. */
export async function createHostToken(
  { database, clock }: Pick<ServiceContext, 'database' | 'clock'>,
  { hostId, teamId }: { hostId?: HostId; teamId: TeamId | null },
): Promise<{ hostId: HostId; token: string }> {
  const token = newSecret('avyh_');
  const id = await database.db.transaction().execute(async (transaction) => {
    const host = hostId ?? (await insertHost(transaction, teamId));
    const expiresAt = new Date(clock.now() + registrationTokenMs);
    await insertHostToken(transaction, { hostId: host, tokenHash: sha256Hex(token), expiresAt });
    return host;
  });
  return { hostId: id, token };
}

/** Trades a one-time token for credentials. A new registration raises the host's epoch. Throws `unauthorized`. */
export async function registerHost(deps: Deps, request: RegisterHost): Promise<HostCredentials> {
  const now = new Date(deps.clock.now());
  const credentials = await deps.database.db.transaction().execute(async (transaction) => {
    const hostId = await consumeHostToken(transaction, sha256Hex(request.token), now);
    if (!hostId) {
      throw new AppError('unauthorized', 'the registration token is unknown, used or expired; make a new one');
    }
    const host = await registerHostRow(transaction, {
      id: hostId,
      facts: {
        address: request.address,
        arch: request.arch,
        cpu_cores: request.cpu_cores,
        memory_mib: request.memory_mb,
        disk_gib: request.disk_gb,
        agent_version: request.agent_version,
      },
      now,
    });
    await recordAudit(transaction, {
      teamId: host.team_id ?? platformTeamId,
      actor: { type: 'host', id: hostId, name: request.address },
      resourceId: hostId,
      action: 'host.registered',
      metadata: { address: request.address },
    });
    // Who registered before is fenced off for good: its tokens run out, and it gets no others.
    await revokeRefreshTokensOf(transaction, hostId, now);
    return issue(deps, transaction, { hostId, epoch: host.epoch });
  });
  return credentials;
}

/** Renews credentials: the new ones are issued before the old refresh token is revoked, so that a crash leaves two, never none. */
export async function refreshHost(deps: Deps, refreshToken: string): Promise<HostCredentials> {
  const now = new Date(deps.clock.now());
  const { db } = deps.database;
  const known = await findRefreshToken(db, sha256Hex(refreshToken), now);
  if (!known) {
    throw new AppError('unauthorized', 'the refresh token is unknown, revoked or expired; register the host again');
  }
  const host = await getHost(db, known.host_id);
  const credentials = await issue(deps, db, { hostId: known.host_id, epoch: host.epoch });
  await revokeRefreshToken(db, known.id, now);
  return credentials;
}

async function issue(
  deps: Deps,
  db: Db,
  { hostId, epoch }: { hostId: HostId; epoch: number },
): Promise<HostCredentials> {
  const refreshToken = newSecret('avyr_');
  const expiresAt = new Date(deps.clock.now() + refreshTokenMs);
  await insertRefreshToken(db, { hostId, tokenHash: sha256Hex(refreshToken), expiresAt });
  const signed = await deps.signingKey.signHostToken(hostId);
  return {
    host_id: formatId('host', hostId),
    token: signed.token,
    token_expires_at: signed.expiresAt.toISOString(),
    refresh_token: refreshToken,
    control_plane_public_key: { ...deps.signingKey.publicJwk },
    epoch,
  };
}
