import type { Module } from '../module.ts';
import { registerAdminRoutes } from './admin-routes.ts';
import { runPausing } from './pause-deactivated.ts';

/** What those who look after the platform see and do of people and teams. */
export const adminModule: Module = {
  name: 'admin',
  routes: registerAdminRoutes,
  loops: (context) => [(signal) => runPausing(context, signal)],
};
