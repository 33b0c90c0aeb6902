import type { Module } from '../module.ts';
import { registerHostRoutes } from './host-routes.ts';
import { drainHostsOf } from './host-store.ts';

/** Machines that run sandboxes: their registration, their credentials, their heartbeats. */
export const hostsModule: Module = {
  name: 'hosts',
  routes: registerHostRoutes,
  // A host that the team brought keeps its credentials, with which its agent hears what to destroy, and gets nothing more to do.
  teamResources: () => [{ tables: ['hosts'], deactivate: ({ db }, { teamId }) => drainHostsOf(db, teamId) }],
};
