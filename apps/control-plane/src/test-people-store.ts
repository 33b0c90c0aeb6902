import {
  formatId,
  type KeyScope,
  newId,
  type SandboxId,
  type SessionId,
  type TeamId,
  type TeamRole,
  type UserId,
} from '@aviary/core';
import type { Db } from './context.ts';
import { newSecret, sha256Hex } from './secrets.ts';

const sessionMs = 24 * 3600 * 1000;

/** For tests: a team of its own, without members. */
export async function insertTestTeam(db: Db, name = 'Test team'): Promise<TeamId> {
  const id = newId('team');
  await db
    .insertInto('teams')
    .values({ id, name, slug: id.replaceAll('-', '').slice(-12) })
    .execute();
  return id;
}

/** For tests: a person as signing up would leave them, in `membership` if one is given. */
export async function insertTestUser(
  db: Db,
  {
    email,
    isAdmin = false,
    membership,
  }: { email?: string; isAdmin?: boolean; membership?: { teamId: TeamId; role: TeamRole } },
): Promise<{ userId: UserId; email: string }> {
  const userId = newId('user');
  const address = email ?? `${userId}@example.com`;
  await db
    .insertInto('users')
    .values({
      id: userId,
      email: address,
      email_key: address.toLowerCase(),
      name: address.split('@', 1)[0] ?? '',
      password_hash: null,
      is_admin: isAdmin,
      email_verified_at: new Date(),
    })
    .execute();
  if (membership) {
    await db
      .insertInto('team_members')
      .values({ team_id: membership.teamId, user_id: userId, role: membership.role })
      .execute();
  }
  return { userId, email: address };
}

/** For tests: a session as logging in would leave it. */
export async function insertTestSession(db: Db, userId: UserId): Promise<SessionId> {
  const id = newId('session');
  await db
    .insertInto('sessions')
    .values({ id, user_id: userId, expires_at: new Date(Date.now() + sessionMs), revoke_reason: null })
    .execute();
  return id;
}

/** For tests: an API key of any state. */
export async function insertTestKey(
  db: Db,
  { scopes, ...row }: { teamId: TeamId; scopes?: readonly KeyScope[]; revokedAt?: Date; expiresAt?: Date },
): Promise<{ id: string; key: string }> {
  const id = newId('apiKey');
  const key = newSecret('avy_');
  await db
    .insertInto('api_keys')
    .values({
      id,
      team_id: row.teamId,
      name: 'of a test',
      key_hash: sha256Hex(key),
      key_prefix: key.slice(0, 12),
      revoked_at: row.revokedAt ?? null,
      expires_at: row.expiresAt ?? null,
      ...(scopes ? { scopes: JSON.stringify(scopes) } : {}),
    })
    .execute();
  return { id: formatId('apiKey', id), key };
}

/** For tests: what a team has that no quick call of the API makes; their wire ids. */
export async function insertTestThings(
  db: Db,
  { teamId, sandboxId, invitedBy }: { teamId: TeamId; sandboxId: SandboxId; invitedBy: UserId },
): Promise<{ generation: string; apiKey: string; invitation: string }> {
  const generationId = newId('generation');
  await db
    .insertInto('generations')
    .values({
      id: generationId,
      sandbox_id: sandboxId,
      cause: 'pause',
      has_memory: false,
      memory_bytes: 0,
      disk_bytes: 0,
      created_at: new Date(),
    })
    .execute();
  const invitationId = newId('invitation');
  const email = `${invitationId}@example.com`;
  await db
    .insertInto('team_invitations')
    .values({
      id: invitationId,
      team_id: teamId,
      email,
      email_key: email,
      role: 'member',
      token_hash: invitationId,
      invited_by: invitedBy,
      expires_at: new Date(Date.now() + sessionMs),
    })
    .execute();
  return {
    generation: formatId('generation', generationId),
    apiKey: (await insertTestKey(db, { teamId })).id,
    invitation: formatId('invitation', invitationId),
  };
}
