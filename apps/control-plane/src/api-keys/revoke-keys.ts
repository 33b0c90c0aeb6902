import { recordAudit } from '../audit/audit-store.ts';
import type { Actor, Db } from '../context.ts';
import { tellAccessChanged } from '../http/access-change-store.ts';
import { type KeySelection, revokeKeyRows } from './api-key-store.ts';

/** Revokes keys for good, with an audit entry for each; what they have open is closed. Resolves with how many there were. */
export async function revokeKeys(
  db: Db,
  { selection, actor, now, cause }: { selection: KeySelection; actor: Actor; now: Date; cause?: string },
): Promise<number> {
  const revoked = await revokeKeyRows(db, selection, now);
  for (const { id, team_id: teamId, name } of revoked) {
    const metadata = { key: name, ...(cause === undefined ? {} : { cause }) };
    await recordAudit(db, { teamId, actor, action: 'api_key.revoke', resourceId: id, metadata });
  }
  await tellAccessChanged(db, ...revoked.map(({ id }) => ({ type: 'api_key', id }) as const));
  return revoked.length;
}
