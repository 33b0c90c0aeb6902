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
    name: Type.String(),
    is_admin: Type.Boolean(),
    status: Type.Enum(['active', 'deactivated', 'deleted']),
    created_at: timestamp,
    teams_joined: Type.Integer(),
    teams_owned: Type.Integer(),
  }),
);
export type AdminUser = Static<typeof AdminUser>;

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
