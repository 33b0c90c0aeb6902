import { type Static, Type } from 'typebox';
import { byTeam } from './access.ts';
import { ApiKey } from './api-keys.ts';
import { component } from './component.ts';
import { exampleKey } from './examples.ts';
import { wireId } from './fields.ts';
import type { RouteTable } from './route.ts';

export const Caller = component(
  'Caller',
  Type.Object({
    team: Type.Object({ id: wireId('team'), name: Type.String() }),
    api_key: Type.Union([ApiKey, Type.Null()], { description: 'The key that was shown.' }),
    user: Type.Union([Type.Object({ user_id: wireId('user'), email: Type.String() }), Type.Null()], {
      description: 'Who has logged in, where no key was shown.',
    }),
  }),
);
export type Caller = Static<typeof Caller>;

/** By what somebody calls. */
export const callerRoutes = {
  getCaller: {
    tag: 'api_keys',
    access: byTeam('any'),
    method: 'GET',
    path: '/v1/caller',
    summary: 'Tell who calls, and for which team',
    description: 'For programs that were given a key. `/v1/me` tells more to people who have logged in.',
    example: {
      reply: {
        team: { id: 'team-0190c2d0-0000-7111-8222-333344445555', name: 'Analytics' },
        api_key: exampleKey,
        user: null,
      },
    },
    replies: { 200: Caller },
  },
} as const satisfies RouteTable;
