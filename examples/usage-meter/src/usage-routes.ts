import { byTeam, type RouteTable } from '@aviary/api-contract';
import { type ControlPlaneContext, registerRoutes } from '@aviary/control-plane';
import { AppError, formatId } from '@aviary/core';
import { Type } from 'typebox';
import { sumRuns } from './usage-store.ts';

const monthMs = 30 * 24 * 3600_000;
const moment = Type.String({ format: 'date-time' });

/** What a team has used: for its members, and for keys of any scope. */
const usageRoutes = {
  getUsage: {
    tag: 'sandboxes',
    access: byTeam('any'),
    method: 'GET',
    path: '/v1/usage',
    summary: 'Tell what your team has used',
    description: 'Between two moments, by default in the last 30 days. A sandbox that runs counts up to now.',
    query: Type.Object({ from: Type.Optional(moment), to: Type.Optional(moment) }),
    replies: {
      200: Type.Object({
        team_id: Type.String(),
        from: moment,
        to: moment,
        sandbox_seconds: Type.Number(),
        vcpu_seconds: Type.Number(),
      }),
    },
  },
} as const satisfies RouteTable;

export function registerUsageRoutes(app: Parameters<typeof registerRoutes>[0], context: ControlPlaneContext): void {
  registerRoutes(app, context, {
    table: usageRoutes,
    handlers: {
      getUsage: async ({ caller, query }) => {
        const now = new Date(context.clock.now());
        const to = query.to === undefined ? now : new Date(query.to);
        const from = query.from === undefined ? new Date(to.getTime() - monthMs) : new Date(query.from);
        if (!(from < to))
          throw new AppError('invalid_request', 'from must be before to', { details: { field: 'from' } });
        const { sandboxSeconds, vcpuSeconds } = await sumRuns(context.database.db, {
          teamId: caller.teamId,
          from,
          to,
          now,
        });
        return {
          team_id: formatId('team', caller.teamId),
          from: from.toISOString(),
          to: to.toISOString(),
          sandbox_seconds: sandboxSeconds,
          vcpu_seconds: vcpuSeconds,
        };
      },
    },
  });
}
