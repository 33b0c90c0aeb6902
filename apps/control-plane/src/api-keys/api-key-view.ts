import type { ApiKey } from '@aviary/api-contract';
import { formatId } from '@aviary/core';
import type { ApiKeyRow } from './api-key-store.ts';

/** A key as its team sees it. */
export function viewApiKey(row: ApiKeyRow): ApiKey {
  return {
    id: formatId('apiKey', row.id),
    name: row.name,
    prefix: row.key_prefix,
    scopes: row.scopes,
    created_by:
      row.created_by && row.creator_email !== null
        ? { user_id: formatId('user', row.created_by), email: row.creator_email }
        : null,
    created_at: row.created_at.toISOString(),
    expires_at: row.expires_at?.toISOString() ?? null,
    last_used_at: row.last_used_at?.toISOString() ?? null,
  };
}
