import { type ApiKeyId, type KeyScope, newId, type TeamId } from '@aviary/core';

import type { Db } from '../context.ts';
import { newSecret, sha256Hex } from '../secrets.ts';

/** The digits behind either prefix are the same key: E2B's clients insist on theirs. */
const keyPattern = /^(?:avy|e2b)_([0-9a-f]{40})$/;
const shownPrefixLength = 12;

/** How stale `last_used_at` may be: a write per request would cost more than the request. */
const lastUsedMinutes = 5;

export interface ApiKeyOwner {
  id: ApiKeyId;
  teamId: TeamId;
  name: string;
  scopes: KeyScope[];
}

/** Makes a key and returns it: the only time that it can be read. */
export async function insertApiKey(db: Db, { teamId, name }: { teamId: TeamId; name: string }): Promise<string> {
  const key = newSecret('avy_');
  await db
    .insertInto('api_keys')
    .values({
      id: newId('apiKey'),
      team_id: teamId,
      name,
      key_hash: sha256Hex(key),
      key_prefix: key.slice(0, shownPrefixLength),
    })
    .execute();
  return key;
}

/** Whose key this is; undefined when it is unknown, revoked, expired, or its team is gone. */
export async function findApiKeyOwner(db: Db, key: string, now: Date): Promise<ApiKeyOwner | undefined> {
  const [, digits] = keyPattern.exec(key) ?? [];
  if (digits === undefined) return undefined;
  const row = await db
    .selectFrom('api_keys')
    .innerJoin('teams', 'teams.id', 'api_keys.team_id')
    .select(['api_keys.id', 'api_keys.team_id', 'api_keys.name', 'api_keys.scopes', 'api_keys.last_used_at'])
    .where('key_hash', '=', sha256Hex(`avy_${digits}`))
    .where('revoked_at', 'is', null)
    .where('teams.deleted_at', 'is', null)
    .where((where) => where.or([where('expires_at', 'is', null), where('expires_at', '>', now)]))
    .executeTakeFirst();
  if (!row) return undefined;
  if (!row.last_used_at || now.getTime() - row.last_used_at.getTime() > lastUsedMinutes * 60_000) {
    await db.updateTable('api_keys').set({ last_used_at: now }).where('id', '=', row.id).execute();
  }
  return { id: row.id, teamId: row.team_id, name: row.name, scopes: row.scopes };
}
