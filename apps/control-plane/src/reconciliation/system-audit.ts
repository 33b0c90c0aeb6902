import { platformTeamId } from '@aviary/core';
import { recordAudit } from '../audit/audit-store.ts';
import type { Db } from '../context.ts';
import type { HostRow } from '../hosts/host-store.ts';
import type { SandboxRow } from '../sandboxes/sandbox-store.ts';

/** What happens without anybody's command is told in the log as well. */
const actor = { type: 'system', id: null, name: 'system' } as const;

export async function recordAutoPause(
  db: Db,
  { id, team_id: teamId, status_reason: reason }: Pick<SandboxRow, 'id' | 'team_id' | 'status_reason'>,
): Promise<void> {
  const metadata = reason === null ? {} : { reason };
  await recordAudit(db, { teamId, actor, action: 'sandbox.auto_pause', resourceId: id, metadata });
}

/** Of a host that a team brought in the team's log, of any other in the platform's. */
export async function recordHostDown(
  db: Db,
  { id, team_id, address }: Pick<HostRow, 'id' | 'team_id' | 'address'>,
): Promise<void> {
  const teamId = team_id ?? platformTeamId;
  await recordAudit(db, { teamId, actor, action: 'host.marked_down', resourceId: id, metadata: { address } });
}
