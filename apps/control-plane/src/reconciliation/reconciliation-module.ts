import type { Module } from '../module.ts';
import { registerEventRoutes } from './event-routes.ts';

/** Brings what hosts have and what the database says together: by what they report, and by looking. */
export const reconciliationModule: Module = {
  name: 'reconciliation',
  routes: registerEventRoutes,
  loops: ({ reconciler }) => [(signal) => reconciler.run(signal)],
};
