import { runLoop } from '@aviary/service-kit';
import { deleteExpiredSignInCodes } from '../accounts/sign-in-code-store.ts';
import type { Module } from '../module.ts';
import { deleteExpiredAttempts } from './attempt-store.ts';
import { registerIdentityRoutes } from './identity-routes.ts';
import { registerSignInRoutes } from './sign-in-routes.ts';

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
        async () => {
          await deleteExpiredAttempts(database.db, new Date(clock.now()));
          await deleteExpiredSignInCodes(database.db, new Date(clock.now()));
        },
        signal,
      ),
  ],
};
