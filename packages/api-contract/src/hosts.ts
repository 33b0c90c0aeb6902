import { type Static, Type } from 'typebox';
import { byAnyone, byHost, byTeam } from './access.ts';
import { component } from './component.ts';
import { closed, nullable, timestamp, wireId } from './fields.ts';
import type { RouteTable } from './route.ts';

export const Host = component(
  'Host',
  Type.Object({
    id: wireId('host'),
    status: Type.Enum(['pending', 'online', 'unreachable', 'draining']),
    address: Type.String(),
    arch: Type.String(),
    cpu_cores: Type.Integer(),
    memory_mb: Type.Integer(),
    disk_gb: Type.Integer(),
    agent_version: Type.String(),
    last_heartbeat_at: nullable(timestamp),
  }),
);
export type Host = Static<typeof Host>;

export const HostItems = component('HostItems', Type.Object({ items: Type.Array(Host) }));

/** Where the control plane reaches the host's agent. */
const hostAddress = Type.String({ minLength: 1, maxLength: 255, pattern: '^(https?://)?[a-zA-Z0-9.:\\[\\]-]+$' });
const hostSize = { minimum: 1, maximum: 2 ** 31 - 1 };

export const RegisterHost = component(
  'RegisterHost',
  Type.Object(
    {
      token: Type.String({ minLength: 1, maxLength: 256 }),
      address: hostAddress,
      arch: Type.String({ minLength: 1, maxLength: 32 }),
      cpu_cores: Type.Integer(hostSize),
      memory_mb: Type.Integer(hostSize),
      disk_gb: Type.Integer(hostSize),
      agent_version: Type.String({ maxLength: 64 }),
    },
    closed,
  ),
);
export type RegisterHost = Static<typeof RegisterHost>;

export const HostCredentials = component(
  'HostCredentials',
  Type.Object({
    host_id: wireId('host'),
    token: Type.String(),
    token_expires_at: timestamp,
    refresh_token: Type.String(),
    control_plane_public_key: Type.Record(Type.String(), Type.Unknown()),
    epoch: Type.Integer(),
  }),
);
export type HostCredentials = Static<typeof HostCredentials>;

export const RefreshHost = component(
  'RefreshHost',
  Type.Object({ refresh_token: Type.String({ minLength: 1, maxLength: 256 }) }, closed),
);
export type RefreshHost = Static<typeof RefreshHost>;

// Open: agents of a newer version report more than this control plane knows.
export const Heartbeat = component(
  'Heartbeat',
  Type.Object({
    agent_version: Type.Optional(Type.String({ maxLength: 64 })),
    address: Type.Optional(hostAddress),
    sandboxes_running: Type.Optional(Type.Integer({ minimum: 0 })),
  }),
);
export type Heartbeat = Static<typeof Heartbeat>;

export const HostParams = Type.Object({ id: wireId('host') });

const tag = 'hosts';

/** Hosts as teams see them, and how host agents register and stay known. */
export const hostRoutes = {
  listHosts: {
    tag,
    access: byTeam('any'),
    method: 'GET',
    path: '/v1/hosts',
    summary: 'List hosts that the team can use',
    replies: { 200: HostItems },
  },
  registerHost: {
    isInternal: true,
    tag,
    access: byAnyone,
    method: 'POST',
    path: '/v1/hosts/register',
    summary: 'Register a host agent by its one-time token',
    body: RegisterHost,
    replies: { 201: HostCredentials },
    errors: [401],
  },
  refreshHost: {
    isInternal: true,
    tag,
    access: byAnyone,
    method: 'POST',
    path: '/v1/hosts/auth/refresh',
    summary: 'Renew the credentials of a host agent',
    body: RefreshHost,
    replies: { 200: HostCredentials },
    errors: [401],
  },
  heartbeat: {
    isInternal: true,
    tag,
    access: byHost,
    method: 'POST',
    path: '/v1/hosts/{id}/heartbeat',
    summary: 'Say that a host is alive',
    params: HostParams,
    body: Heartbeat,
    isBodyOptional: true,
    replies: { 204: null },
    errors: [403],
  },
} as const satisfies RouteTable;
