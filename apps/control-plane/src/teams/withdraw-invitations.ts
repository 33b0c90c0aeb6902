import type { TeamId } from '@aviary/core';
import { recordAudit } from '../audit/audit-store.ts';
import type { Actor, Db } from '../context.ts';
import { type InvitationChoice, revokeInvitations } from './invitation-store.ts';

/** Revokes open invitations of a team, with an audit entry for each. */
export async function withdrawInvitations(
  db: Db,
  { actor, ...which }: { teamId: TeamId; actor: Actor; now: Date } & InvitationChoice,
): Promise<void> {
  for (const id of await revokeInvitations(db, which))
    await recordAudit(db, { teamId: which.teamId, actor, action: 'invitation.revoke', resourceId: id });
}
