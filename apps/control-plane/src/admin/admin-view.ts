import type { AdminMail, AdminSandbox, AdminTeam, AdminUser } from '@aviary/api-contract';
import { formatId } from '@aviary/core';
import type { MailRow } from '../mail/mail-store.ts';
import type { SandboxOfAnyTeam } from '../sandboxes/sandbox-store.ts';
import { viewSandbox } from '../sandboxes/sandbox-view.ts';
import { showSlug } from '../teams/team-view.ts';
import type { AdminTeamRow, UserRow } from './admin-store.ts';

export function viewAdminUser({ id, created_at, deleted_at, ...row }: UserRow): AdminUser {
  return {
    ...row,
    id: formatId('user', id),
    created_at: created_at.toISOString(),
    deleted_at: deleted_at?.toISOString() ?? null,
  };
}

export function viewAdminTeam({ id, slug, created_at, deleted_at, ...row }: AdminTeamRow): AdminTeam {
  return {
    ...row,
    id: formatId('team', id),
    slug: showSlug(slug),
    created_at: created_at.toISOString(),
    deleted_at: deleted_at?.toISOString() ?? null,
  };
}

export function viewAdminSandbox({ team_name, ...sandbox }: SandboxOfAnyTeam): AdminSandbox {
  return {
    team_id: formatId('team', sandbox.team_id),
    team_name: team_name ?? '',
    sandbox: viewSandbox(sandbox),
  };
}

export function viewAdminMail({ id, next_attempt_at, created_at, expires_at, ...row }: MailRow): AdminMail {
  return {
    ...row,
    id: formatId('mail', id),
    next_attempt_at: row.state === 'waiting' ? next_attempt_at.toISOString() : null,
    created_at: created_at.toISOString(),
    expires_at: expires_at.toISOString(),
  };
}
