import { wireIdSource } from '@aviary/core';
import { type Static, Type } from 'typebox';
import { byPlatformAdmin } from './access.ts';
import { AuditLogPage, AuditQuery } from './audit.ts';
import { component } from './component.ts';
import { closed, cursor, limit, nullable, text, timestamp, wireId } from './fields.ts';
import type { RouteTable } from './route.ts';
import { Sandbox } from './sandboxes.ts';

export const AdminUser = component(
  'AdminUser',
  Type.Object({
    id: wireId('user'),
    email: Type.String(),
    email_verified: Type.Boolean(),
    name: Type.String(),
    is_admin: Type.Boolean(),
    status: Type.Enum(['active', 'deactivated', 'deleted']),
    has_second_factor: Type.Boolean(),
    created_at: timestamp,
    deleted_at: Type.Union([timestamp, Type.Null()], {
      description: 'Of one whose account is deleted: 15 days later it is purged.',
    }),
    teams_joined: Type.Integer(),
    teams_owned: Type.Integer(),
  }),
);
export type AdminUser = Static<typeof AdminUser>;

export const AccountLink = component(
  'AccountLink',
  Type.Object({
    purpose: Type.Enum(['password_reset', 'email_verification']),
    url: Type.String({ description: 'Good once. Shown this once: hand it over yourself.' }),
    expires_at: timestamp,
  }),
);
export type AccountLink = Static<typeof AccountLink>;

export const AdminMail = component(
  'AdminMail',
  Type.Object({
    id: wireId('mail'),
    kind: Type.String({ description: 'e.g. `password_reset`, `verify_email`, `invitation`.' }),
    email: Type.String(),
    state: Type.Enum(['waiting', 'logged', 'failed'], {
      description:
        '`waiting`: to be sent, or sent again. `logged`: the platform sends no mail, its link is in the log. `failed`: given up.',
    }),
    attempts: Type.Integer(),
    last_error: nullable(Type.String({ description: 'What the mail server said, or what kept it from it.' })),
    next_attempt_at: nullable(timestamp),
    created_at: timestamp,
    expires_at: timestamp,
  }),
);
export type AdminMail = Static<typeof AdminMail>;

export const AdminTeam = component(
  'AdminTeam',
  Type.Object({
    id: wireId('team'),
    name: Type.String(),
    slug: Type.String(),
    owner_email: nullable(Type.String()),
    member_count: Type.Integer(),
    sandbox_count: Type.Integer({ description: 'Sandboxes that are not stopped.' }),
    created_at: timestamp,
    deleted_at: nullable(timestamp),
  }),
);
export type AdminTeam = Static<typeof AdminTeam>;

export const AdminSandbox = component(
  'AdminSandbox',
  Type.Object({ team_id: wireId('team'), team_name: Type.String(), sandbox: Sandbox }),
);

export type AdminSandbox = Static<typeof AdminSandbox>;

const pageOf = <S extends Parameters<typeof Type.Array>[0]>(item: S) =>
  Type.Object({ items: Type.Array(item), next_cursor: nullable(Type.String()) });
const search = Type.Optional(text(254, 1));
const UserParams = Type.Object({ user_id: wireId('user') });

const tag = 'admin';
const access = byPlatformAdmin;

/** What those who look after the platform see and do of people and teams. */
export const adminRoutes = {
  adminListUsers: {
    tag,
    access,
    method: 'GET',
    path: '/v1/admin/users',
    summary: 'List people, newest first',
    description: '`search` is a part of an address or a name.',
    query: Type.Object({ limit, search, cursor: cursor(wireIdSource('user')) }),
    replies: { 200: component('AdminUserPage', pageOf(AdminUser)) },
  },
  adminGetUser: {
    tag,
    access,
    method: 'GET',
    path: '/v1/admin/users/{user_id}',
    summary: 'Get a person',
    params: UserParams,
    replies: { 200: AdminUser },
  },
  adminDeleteUser: {
    tag,
    access,
    method: 'DELETE',
    path: '/v1/admin/users/{user_id}',
    summary: "Delete a person's account",
    description:
      'As if they did it themselves: their teams go that have nobody else, and one that they own and that has others is in the way; `details.teams` names it. Your own account is deleted with `DELETE /v1/me`.',
    params: UserParams,
    replies: { 204: null },
    errors: [409],
  },
  adminRestoreUser: {
    tag,
    access,
    method: 'POST',
    path: '/v1/admin/users/{user_id}/restore',
    summary: 'Restore a deleted account',
    description:
      'Within 15 days, unless somebody has signed up with its address. What it had in teams, its keys and its sessions stay gone, and it is no administrator; it gets a new team of its own.',
    params: UserParams,
    replies: { 204: null },
    errors: [409],
  },
  adminSetUserActive: {
    tag,
    access,
    method: 'PUT',
    path: '/v1/admin/users/{user_id}/active',
    summary: 'Deactivate a person, or let them in again',
    description:
      'Of a person who is deactivated all sessions end, the keys that they made are revoked, and running sandboxes are paused in teams of which they are the only member. Nobody deactivates themselves.',
    params: UserParams,
    body: component('SetUserActive', Type.Object({ active: Type.Boolean() }, closed)),
    replies: { 204: null },
    errors: [409],
  },
  adminSetUserAdmin: {
    tag,
    access,
    method: 'PUT',
    path: '/v1/admin/users/{user_id}/admin',
    summary: 'Make a person an administrator of the platform, or no longer',
    description: 'One active administrator always stays.',
    params: UserParams,
    body: component('SetUserAdmin', Type.Object({ admin: Type.Boolean() }, closed)),
    replies: { 204: null },
    errors: [409],
  },
  adminCreateLink: {
    tag,
    access,
    method: 'POST',
    path: '/v1/admin/users/{user_id}/links',
    summary: 'Make a link for a person to set a password or verify their address by',
    description:
      'For a platform that sends no mail, or a mail that does not arrive. Nobody is logged in by it, and it is no way around a second factor. Each is told in the audit log.',
    params: UserParams,
    body: component(
      'CreateLink',
      Type.Object({ purpose: Type.Enum(['password_reset', 'email_verification']) }, closed),
    ),
    replies: { 201: AccountLink },
    errors: [409],
  },
  adminListMails: {
    tag,
    access,
    method: 'GET',
    path: '/v1/admin/mails',
    summary: 'List mails that were not sent, newest first',
    description:
      'Mails that are sent are not kept, others for a week after they are of no use any more. On a platform that sends no mail these are the links that people wait for: make them another one, or take it from the log.',
    query: Type.Object({ limit, cursor: cursor(wireIdSource('mail')) }),
    replies: { 200: component('AdminMailPage', pageOf(AdminMail)) },
  },
  adminRemoveSecondFactor: {
    tag,
    access,
    method: 'DELETE',
    path: '/v1/admin/users/{user_id}/second-factor',
    summary: "Take away a person's second factor",
    description:
      'For one who has lost their app and their recovery codes: make sure that it is them who ask. They are told by mail; their password, passkeys and sessions stay. Nobody takes away their own (409).',
    params: UserParams,
    replies: { 204: null },
    errors: [409],
  },
  adminListTeams: {
    tag,
    access,
    method: 'GET',
    path: '/v1/admin/teams',
    summary: 'List teams, newest first',
    description: 'With those that were deleted. `search` is a part of a name or a slug.',
    query: Type.Object({ limit, search, cursor: cursor(wireIdSource('team')) }),
    replies: { 200: component('AdminTeamPage', pageOf(AdminTeam)) },
  },
  adminDeleteTeam: {
    tag,
    access,
    method: 'DELETE',
    path: '/v1/admin/teams/{team_id}',
    summary: 'Delete any team with all it has',
    params: Type.Object({ team_id: wireId('team') }),
    replies: { 204: null },
  },
  adminListSandboxes: {
    tag,
    access,
    method: 'GET',
    path: '/v1/admin/sandboxes',
    summary: 'List the sandboxes of all teams that are not stopped, newest first',
    query: Type.Object({ limit, cursor: cursor(wireIdSource('sandbox')) }),
    replies: { 200: component('AdminSandboxPage', pageOf(AdminSandbox)) },
  },
  adminListAuditLogs: {
    tag,
    access,
    method: 'GET',
    path: '/v1/admin/audit-logs',
    summary: "Read the platform's own audit log",
    query: AuditQuery,
    replies: { 200: AuditLogPage },
  },
} as const satisfies RouteTable;
