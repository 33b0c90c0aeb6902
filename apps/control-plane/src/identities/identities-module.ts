import { runLoop } from '@aviary/service-kit';
import type { Module } from '../module.ts';
import { registerIdentityRoutes } from './identity-routes.ts';
import { registerSignInRoutes } from './sign-in-routes.ts';
import { deleteExpiredSignIns } from './sign-in-store.ts';

const sweepMs = 10 * 60_000;

/** Signing in at servers that vouch for people, and what an account is linked with there. */
export const identitiesModule: Module = {
  name: 'identities',
  routes: (app, context) => {
    registerSignInRoutes(app, context);
    registerIdentityRoutes(app, context);
  },
  loops: ({ database, clock, logger }) => [
    (signal) =>
      runLoop(
        { name: 'identities', intervalMs: sweepMs, clock, logger },
        () => deleteExpiredSignIns(database.db, new Date(clock.now())),
        signal,
      ),
  ],
};
