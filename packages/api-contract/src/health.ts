import { type Static, Type } from 'typebox';
import { byAnyone } from './access.ts';
import { component } from './component.ts';
import type { RouteTable } from './route.ts';

export const Health = component('Health', Type.Object({ status: Type.Literal('ok'), version: Type.String() }));
export type Health = Static<typeof Health>;

/** Whether the service serves. */
export const healthRoutes = {
  health: {
    tag: 'service',
    access: byAnyone,
    method: 'GET',
    path: '/health',
    summary: 'Tell whether the control plane can serve',
    isUnlimited: true,
    replies: { 200: Health },
  },
} as const satisfies RouteTable;
