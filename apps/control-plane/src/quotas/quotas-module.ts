import type { Module } from '../module.ts';
import { registerQuotaRoutes } from './quota-routes.ts';

/** What teams may have at once. */
export const quotasModule: Module = {
  name: 'quotas',
  routes: registerQuotaRoutes,
  // That of a team that is gone limits nothing.
  teamResources: () => [{ tables: ['team_quotas'] }],
};
