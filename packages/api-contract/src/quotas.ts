import { type Static, Type } from 'typebox';
import { byPlatformAdmin, type TeamAccess } from './access.ts';
import { component } from './component.ts';
import { closed, nullable, wireId } from './fields.ts';
import type { RouteTable } from './route.ts';

const amount = Type.Integer({ minimum: 0, maximum: 2 ** 31 - 1 });

const limits = {
  sandboxes: nullable(amount),
  vcpus: nullable(amount),
  memory_mb: nullable(amount),
  disk_size_mb: nullable(amount),
  templates: nullable(amount),
};

export const SetQuota = component(
  'SetQuota',
  Type.Object(limits, { ...closed, description: 'All of the limits; null is as much as there is.' }),
);
export type SetQuota = Static<typeof SetQuota>;

export const Quota = component(
  'Quota',
  Type.Object({
    team_id: wireId('team'),
    limits: Type.Object(limits, { description: 'What the team may have at once; null is as much as there is.' }),
    used: Type.Object(
      {
        sandboxes: Type.Integer(),
        vcpus: Type.Integer(),
        memory_mb: Type.Integer(),
        disk_size_mb: Type.Integer(),
        templates: Type.Integer(),
      },
      {
        description:
          'What it has. A paused sandbox counts for `sandboxes` and `disk_size_mb`, not for `vcpus` and `memory_mb`; a stopped one for nothing.',
      },
    ),
  }),
);
export type Quota = Static<typeof Quota>;

const TeamParams = Type.Object({ team_id: wireId('team') });

const byTeamOfPath = {
  by: 'team',
  keyScope: 'any',
  role: 'member',
  team: 'path',
} as const satisfies TeamAccess;

const exampleQuota = {
  team_id: 'team-0190c2d0-0000-7111-8222-333344445555',
  limits: { sandboxes: 20, vcpus: 40, memory_mb: 65_536, disk_size_mb: null, templates: 10 },
  used: { sandboxes: 3, vcpus: 4, memory_mb: 4_096, disk_size_mb: 15_360, templates: 1 },
};

/** What a team may have at once: read by the team, set by administrators of the platform. */
export const quotaRoutes = {
  getTeamQuota: {
    tag: 'teams',
    access: byTeamOfPath,
    method: 'GET',
    path: '/v1/teams/{team_id}/quota',
    summary: 'Tell what the team may have, and has',
    params: TeamParams,
    example: { reply: exampleQuota },
    replies: { 200: Quota },
  },
  getQuota: {
    tag: 'admin',
    access: byPlatformAdmin,
    method: 'GET',
    path: '/v1/admin/teams/{team_id}/quota',
    summary: 'Tell what a team may have, and has',
    params: TeamParams,
    example: { reply: exampleQuota },
    replies: { 200: Quota },
  },
  setQuota: {
    tag: 'admin',
    access: byPlatformAdmin,
    method: 'PUT',
    path: '/v1/admin/teams/{team_id}/quota',
    summary: 'Set what a team may have',
    description: 'Below what it has, nothing is taken away: it gets no more until it has less.',
    params: TeamParams,
    body: SetQuota,
    example: { request: exampleQuota.limits, reply: exampleQuota },
    replies: { 200: Quota },
  },
} as const satisfies RouteTable;
