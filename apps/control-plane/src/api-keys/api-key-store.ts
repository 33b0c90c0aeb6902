import { type ApiKeyId, fullKeyScopes, type KeyScope, newId, type TeamId, type UserId } from '@aviary/core';
import { sql } from 'kysely';
import type { Db } from '../context.ts';
import { newSecret, sha256Hex } from '../secrets.ts';

/** The digits behind either prefix are the same key: E2B's clients insist on theirs. */
const keyPattern = /^(?:avy|e2b)_([0-9a-f]{40})$/;
const shownPrefixLength = 12;

/** Whose a key is, and why it is good no longer, if so. */
export interface KnownApiKey {
  id: ApiKeyId;
  teamId: TeamId;
  name: string;
  scopes: KeyScope[];
  refusal: 'revoked' | 'expired' | null;
}

export interface NewApiKey {
  teamId: TeamId;
  name: string;
  scopes?: readonly KeyScope[];
  expiresAt?: Date | null;
  createdBy?: UserId | null;
}

/** A key as its team sees it. */
export interface ApiKeyRow {
  id: ApiKeyId;
  name: string;
  key_prefix: string;
  scopes: KeyScope[];
  created_by: UserId | null;
  creator_email: string | null;
  created_at: Date;
  expires_at: Date | null;
  last_used_at: Date | null;
  revoked_at: Date | null;
}

/** Makes a key. What it returns as `key` can never be read again. */
export async function insertApiKey(
  db: Db,
  { teamId, name, scopes = fullKeyScopes, expiresAt = null, createdBy = null }: NewApiKey,
): Promise<{ id: ApiKeyId; key: string }> {
  const key = newSecret('avy_');
  const id = newId('apiKey');
  await db
    .insertInto('api_keys')
    .values({
      id,
      team_id: teamId,
      name,
      key_hash: sha256Hex(key),
      key_prefix: key.slice(0, shownPrefixLength),
      scopes: JSON.stringify(scopes),
      expires_at: expiresAt,
      created_by: createdBy,
    })
    .execute();
  return { id, key };
}

/**
 * Keeps whoever makes a key in the team until the transaction ends: who takes them out, or closes their account, waits and revokes the key
 * as well. False when they are out already.
 */
export async function lockMaker(db: Db, { teamId, userId }: { teamId: TeamId; userId: UserId }): Promise<boolean> {
  // Locked in the order in which whoever closes an account, or changes a team's members, takes them.
  const row = await db
    .selectFrom('users')
    .innerJoin('team_members', 'team_members.user_id', 'users.id')
    .innerJoin('teams', 'teams.id', 'team_members.team_id')
    .select('users.id')
    .where('users.id', '=', userId)
    .where('users.status', '=', 'active')
    .where('teams.id', '=', teamId)
    .where('teams.deleted_at', 'is', null)
    .forShare(['users', 'teams', 'team_members'])
    .executeTakeFirst();
  return row !== undefined;
}

/** Whose key this is; undefined when it is unknown, or its team is gone. */
export async function findApiKey(db: Db, key: string, now: Date): Promise<KnownApiKey | undefined> {
  const [, digits] = keyPattern.exec(key) ?? [];
  if (digits === undefined) return undefined;
  const row = await db
    .selectFrom('api_keys')
    .innerJoin('teams', 'teams.id', 'api_keys.team_id')
    .select(['api_keys.id', 'team_id', 'api_keys.name', 'scopes', 'expires_at', 'revoked_at'])
    .where('key_hash', '=', sha256Hex(`avy_${digits}`))
    .where('teams.deleted_at', 'is', null)
    .executeTakeFirst();
  if (!row) return undefined;
  const isExpired = row.expires_at !== null && row.expires_at <= now;
  const refusal = row.revoked_at ? 'revoked' : isExpired ? 'expired' : null;
  return { id: row.id, teamId: row.team_id, name: row.name, scopes: row.scopes, refusal };
}

/** For the WHERE of another query: a condition that a team's key is good. What it takes are expressions of SQL. */
export function isGoodKeySql({ id, teamId, now }: { id: string; teamId: string; now: string }): string {
  return `EXISTS (
    SELECT FROM api_keys JOIN teams ON teams.id = api_keys.team_id
    WHERE api_keys.id = ${id} AND api_keys.team_id = ${teamId} AND revoked_at IS NULL
      AND (expires_at IS NULL OR expires_at > ${now}) AND deleted_at IS NULL
  )`;
}

function keysOfTeam(db: Db, teamId: TeamId) {
  return db
    .selectFrom('api_keys')
    .leftJoin('users', 'users.id', 'api_keys.created_by')
    .select([
      'api_keys.id',
      'api_keys.name',
      'key_prefix',
      'scopes',
      'created_by',
      'users.email as creator_email',
      'api_keys.created_at',
      'expires_at',
      'last_used_at',
      'revoked_at',
    ])
    .where('team_id', '=', teamId);
}

/** A team's keys that were not revoked, newest first. `after` is the last id of the page before. */
export function listApiKeys(
  db: Db,
  { teamId, limit, after }: { teamId: TeamId; limit: number; after?: ApiKeyId },
): Promise<ApiKeyRow[]> {
  let query = keysOfTeam(db, teamId).where('revoked_at', 'is', null);
  if (after !== undefined) query = query.where('api_keys.id', '<', after);
  return query.orderBy('api_keys.id', 'desc').limit(limit).execute();
}

/** The team's key, also one that was revoked. */
export function findTeamKey(db: Db, teamId: TeamId, id: ApiKeyId): Promise<ApiKeyRow | undefined> {
  return keysOfTeam(db, teamId).where('api_keys.id', '=', id).executeTakeFirst();
}

/** Which keys are meant: one of a team, all of a team, or those that somebody made, in one team or in all. */
export type KeySelection =
  | { teamId: TeamId; id?: ApiKeyId; createdBy?: undefined }
  | { createdBy: UserId; teamId?: TeamId; id?: undefined };

/** Revokes keys that are not yet; resolves with those that are now. */
export function revokeKeyRows(
  db: Db,
  { teamId, id, createdBy }: KeySelection,
  now: Date,
): Promise<{ id: ApiKeyId; team_id: TeamId; name: string }[]> {
  let query = db.updateTable('api_keys').set({ revoked_at: now }).where('revoked_at', 'is', null);
  if (teamId !== undefined) query = query.where('team_id', '=', teamId);
  if (id !== undefined) query = query.where('id', '=', id);
  if (createdBy !== undefined) query = query.where('created_by', '=', createdBy);
  return query.returning(['id', 'team_id', 'name']).execute();
}

/** Notes when keys were last used, all in one statement. */
export async function noteKeysUsed(db: Db, uses: ReadonlyMap<ApiKeyId, Date>): Promise<void> {
  const rows = JSON.stringify([...uses].map(([id, at]) => ({ id, at })));
  await sql`
    UPDATE api_keys SET last_used_at = greatest(last_used_at, used.at)
    FROM jsonb_to_recordset(${rows}::jsonb) AS used (id uuid, at timestamptz)
    WHERE api_keys.id = used.id`.execute(db);
}
