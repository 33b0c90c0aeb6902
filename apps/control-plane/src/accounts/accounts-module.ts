import { runLoop } from '@aviary/service-kit';
import type { Module } from '../module.ts';
import { deleteExpiredChallenges } from '../second-factors/challenge-store.ts';
import { securityNotices } from '../second-factors/security-notices.ts';
import { accountMails } from './account-mails.ts';
import { registerAccountPages } from './account-pages.ts';
import { registerAuthRoutes } from './auth-routes.ts';
import { registerDeletionRoutes } from './deletion-routes.ts';
import { registerMeRoutes } from './me-routes.ts';
import { deleteExpiredTokens } from './one-time-token-store.ts';
import { purgeAccounts } from './purge-accounts.ts';
import { registerSecondFactorRoutes } from './second-factor-routes.ts';
import { deleteEndedSessions } from './session-store.ts';

const hourMs = 3_600_000;
/** So long a session that has ended is kept, for a late use of one of its tokens to be told as theft. */
const endedKeptMs = 30 * 24 * hourMs;

/** People: how they sign up and in, their sessions, their own accounts. */
export const accountsModule: Module = {
  name: 'accounts',
  routes: async (app, context) => {
    registerAuthRoutes(app, context);
    registerMeRoutes(app, context);
    registerDeletionRoutes(app, context);
    registerSecondFactorRoutes(app, context);
    await registerAccountPages(app);
  },
  mails: () => [...accountMails, ...securityNotices],
  loops: ({ database, clock, logger }) => [
    (signal) =>
      runLoop(
        { name: 'accounts', intervalMs: hourMs, clock, logger },
        async () => {
          await deleteEndedSessions(database.db, new Date(clock.now() - endedKeptMs));
          await deleteExpiredTokens(database.db, new Date(clock.now()));
          await deleteExpiredChallenges(database.db, new Date(clock.now()));
        },
        signal,
      ),
    (signal) =>
      runLoop(
        { name: 'account-purge', intervalMs: hourMs, clock, logger },
        () => purgeAccounts({ database, clock, logger }),
        signal,
      ),
  ],
  // A session of a team that is gone goes on in another one.
  teamResources: () => [{ tables: ['sessions'] }],
};
