import type { Invitation, Member, Team } from '@aviary/api-contract';
import { formatId, type TeamRole } from '@aviary/core';
import type { InvitationRow } from './invitation-store.ts';
import type { MemberRow } from './member-store.ts';
import type { TeamRow } from './team-store.ts';

/** A team as one of its members sees it. */
export function viewTeam(row: TeamRow, role: TeamRole): Team {
  const { id, name, slug, created_at } = row;
  return { id: formatId('team', id), name, slug: showSlug(slug), role, created_at: created_at.toISOString() };
}

/** Twelve hex digits in two halves; the names that the platform itself gave as they are. */
export function showSlug(slug: string): string {
  return /^[0-9a-f]{12}$/.test(slug) ? `${slug.slice(0, 6)}-${slug.slice(6)}` : slug;
}

export function viewMember(row: MemberRow): Member {
  const { user_id, email, name, role, created_at } = row;
  return { user_id: formatId('user', user_id), email, name, role, joined_at: created_at.toISOString() };
}

export function viewInvitation(row: InvitationRow): Invitation {
  return {
    id: formatId('invitation', row.id),
    email: row.email,
    role: row.role,
    invited_by: row.inviter_email,
    created_at: row.created_at.toISOString(),
    expires_at: row.expires_at.toISOString(),
  };
}
