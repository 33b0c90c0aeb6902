import { type Email, type InvitationId, newId, type TeamId, type TeamRole, type UserId } from '@aviary/core';
import type { Db } from '../context.ts';
import { newSecret, sha256Hex } from '../secrets.ts';

export interface InvitationRow {
  id: InvitationId;
  email: string;
  role: Exclude<TeamRole, 'owner'>;
  inviter_email: string | null;
  created_at: Date;
  expires_at: Date;
}

const invitationsOf = (db: Db, teamId: TeamId) =>
  db
    .selectFrom('team_invitations')
    .leftJoin('users', 'users.id', 'team_invitations.invited_by')
    .select([
      'team_invitations.id',
      'team_invitations.email',
      'team_invitations.role',
      'users.email as inviter_email',
      'team_invitations.created_at',
      'team_invitations.expires_at',
    ])
    .where('team_id', '=', teamId);

/** Makes an invitation and returns its token: the only time that it can be read. There must be no open one to the address. */
export async function insertInvitation(
  db: Db,
  invitation: {
    teamId: TeamId;
    email: Email;
    role: InvitationRow['role'];
    invitedBy: UserId;
    now: Date;
    expiresAt: Date;
  },
): Promise<{ row: InvitationRow; token: string }> {
  const token = newSecret('avyi_');
  const id = newId('invitation');
  await db
    .insertInto('team_invitations')
    .values({
      id,
      team_id: invitation.teamId,
      email: invitation.email.address,
      email_key: invitation.email.key,
      role: invitation.role,
      token_hash: sha256Hex(token),
      invited_by: invitation.invitedBy,
      created_at: invitation.now,
      expires_at: invitation.expiresAt,
    })
    .execute();
  const row = await invitationsOf(db, invitation.teamId)
    .where('team_invitations.id', '=', id)
    .executeTakeFirstOrThrow();
  return { row, token };
}

/** Open invitations that have not expired, by id. `after` is the last id of the page before. */
export function listInvitations(
  db: Db,
  { teamId, now, limit, after }: { teamId: TeamId; now: Date; limit: number; after?: InvitationId },
): Promise<InvitationRow[]> {
  let query = invitationsOf(db, teamId)
    .where('accepted_at', 'is', null)
    .where('revoked_at', 'is', null)
    .where('expires_at', '>', now);
  if (after !== undefined) query = query.where('team_invitations.id', '>', after);
  return query.orderBy('team_invitations.id').limit(limit).execute();
}

/** Which of a team's open invitations are meant; all that is given holds. */
export interface InvitationChoice {
  id?: InvitationId;
  emailKey?: string;
  invitedBy?: UserId;
}

/** Revokes open invitations of a team: one, those to one address, those that somebody made, or all. Resolves with their ids. */
export async function revokeInvitations(
  db: Db,
  { teamId, now, ...which }: { teamId: TeamId; now: Date } & InvitationChoice,
): Promise<InvitationId[]> {
  let query = db
    .updateTable('team_invitations')
    .set({ revoked_at: now })
    .where('team_id', '=', teamId)
    .where('accepted_at', 'is', null)
    .where('revoked_at', 'is', null);
  if (which.id !== undefined) query = query.where('id', '=', which.id);
  if (which.emailKey !== undefined) query = query.where('email_key', '=', which.emailKey);
  if (which.invitedBy !== undefined) query = query.where('invited_by', '=', which.invitedBy);
  return (await query.returning('id').execute()).map((row) => row.id);
}

/** The open invitation with that token. */
export function findInvitation(db: Db, token: string, now: Date) {
  return db
    .selectFrom('team_invitations')
    .select(['id', 'team_id', 'email_key', 'role'])
    .where('token_hash', '=', sha256Hex(token))
    .where('accepted_at', 'is', null)
    .where('revoked_at', 'is', null)
    .where('expires_at', '>', now)
    .executeTakeFirst();
}

/** Gives an open invitation another token, the only one that is good then; undefined when it is open no more. */
export async function renewInvitationToken(
  db: Db,
  id: InvitationId,
  now: Date,
): Promise<{ token: string; role: InvitationRow['role']; expiresAt: Date } | undefined> {
  const token = newSecret('avyi_');
  const row = await db
    .updateTable('team_invitations')
    .set({ token_hash: sha256Hex(token) })
    .where('id', '=', id)
    .where('accepted_at', 'is', null)
    .where('revoked_at', 'is', null)
    .where('expires_at', '>', now)
    .returning(['role', 'expires_at'])
    .executeTakeFirst();
  return row && { token, role: row.role, expiresAt: row.expires_at };
}

/** Uses an invitation up. False when somebody else was there before, or it was revoked. */
export async function markAccepted(db: Db, id: InvitationId, now: Date): Promise<boolean> {
  const row = await db
    .updateTable('team_invitations')
    .set({ accepted_at: now })
    .where('id', '=', id)
    .where('accepted_at', 'is', null)
    .where('revoked_at', 'is', null)
    .returning('id')
    .executeTakeFirst();
  return row !== undefined;
}
