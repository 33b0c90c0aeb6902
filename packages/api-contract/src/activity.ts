import { sandboxLimits } from '@aviary/core';
import { type Static, Type } from 'typebox';
import { component } from './component.ts';
import { closed, range } from './fields.ts';
import type { RouteTable } from './route.ts';
import { guestCall } from './sandbox-route.ts';
import { Sandbox } from './sandboxes.ts';

export const SetTimeout = component(
  'SetTimeout',
  Type.Object({ timeout_sec: range(sandboxLimits.timeoutSec, 'Idle seconds before auto-pause; 0 is never.') }, closed),
);
export type SetTimeout = Static<typeof SetTimeout>;

const tag = 'data';

/** What keeps a sandbox awake, and for how long. */
export const activityRoutes = {
  pingSandbox: {
    ...guestCall,
    tag,
    method: 'POST',
    path: '/v1/sandboxes/{id}/ping',
    summary: 'Put off auto-pause',
    replies: { 204: null },
  },
  setTimeout: {
    ...guestCall,
    tag,
    method: 'POST',
    path: '/v1/sandboxes/{id}/timeout',
    summary: 'Set the idle time before auto-pause',
    body: SetTimeout,
    replies: { 200: Sandbox },
  },
} as const satisfies RouteTable;
