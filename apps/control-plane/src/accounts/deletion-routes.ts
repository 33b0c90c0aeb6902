import { accountDeletionRoutes } from '@aviary/api-contract';
import { AppError } from '@aviary/core';
import type { FastifyInstance } from 'fastify';
import { type ApiDeps, registerRoutes, type UserCaller } from '../http/register-routes.ts';
import type { TeamDeletion } from '../teams/team-deletion.ts';
import type { AccountDeps } from './account-deps.ts';
import { confirmOwner } from './confirm-owner.ts';
import { deleteAccount } from './delete-account.ts';
import { findLogInTime } from './deletion-store.ts';
import { clearCookie } from './session-cookie.ts';

/** A session that began so long ago shows by itself that it is the account's owner who asks. */
const recentMs = 15 * 60_000;

/** Where people delete their own accounts. */
export function registerDeletionRoutes(
  app: FastifyInstance,
  deps: ApiDeps & AccountDeps & { teamDeletion: TeamDeletion },
): void {
  registerRoutes(app, deps, {
    table: accountDeletionRoutes,
    handlers: {
      deleteMe: async ({ caller, body, request, reply }) => {
        const now = new Date(deps.clock.now());
        const isShown = await confirmOwner(deps, caller, { ...body, ipAddress: request.ip });
        if (!isShown) await requireRecentLogIn(deps, caller, now);
        const { userId, actor } = caller;
        await deps.database.transaction((unit) => deleteAccount(unit, deps, { userId, actor, now }));
        clearCookie(deps.accounts.settings, reply);
      },
    },
  });
}

async function requireRecentLogIn({ database }: AccountDeps, { sessionId }: UserCaller, now: Date): Promise<void> {
  const since = await findLogInTime(database.db, sessionId);
  if (since && now.getTime() - since.getTime() <= recentMs) return;
  throw new AppError(
    'forbidden',
    'your log-in is too long ago to show that it is you; log in again, and come back at once',
  );
}
