import { adminRoutes } from '@aviary/api-contract';
import { AppError, parseId, platformTeamId } from '@aviary/core';
import type { FastifyInstance } from 'fastify';
import { restoreAccount } from '../accounts/restore-account.ts';
import { readAuditPage } from '../audit/read-audit.ts';
import { pageById } from '../http/cursor.ts';
import { type Handlers, registerRoutes } from '../http/register-routes.ts';
import { listMails } from '../mail/mail-store.ts';
import type { ControlPlaneContext } from '../module.ts';
import { listSandboxesOfAll } from '../sandboxes/sandbox-store.ts';
import { findUser, listTeams, listUsers } from './admin-store.ts';
import { viewAdminMail, viewAdminSandbox, viewAdminTeam, viewAdminUser } from './admin-view.ts';
import { deleteUser, removeSecondFactor, setUserActive, setUserAdmin } from './change-user.ts';
import { createLink } from './create-link.ts';
import { pauseDeactivated } from './pause-deactivated.ts';

type AdminHandlers = Handlers<typeof adminRoutes>;

/** Where administrators of the platform look after people, teams and what those have. */
export function registerAdminRoutes(app: FastifyInstance, context: ControlPlaneContext): void {
  registerRoutes(app, context, {
    table: adminRoutes,
    handlers: { ...readHandlers(context), ...userHandlers(context), ...teamHandlers(context) },
  });
}

function readHandlers({
  database: { db },
}: ControlPlaneContext): Pick<
  AdminHandlers,
  'adminListUsers' | 'adminGetUser' | 'adminListMails' | 'adminListTeams' | 'adminListSandboxes' | 'adminListAuditLogs'
> {
  return {
    adminListUsers: ({ query }) =>
      pageById(query, {
        kind: 'user',
        list: (range) => listUsers(db, { ...range, search: query.search }),
        idOf: ({ id }) => id,
        view: viewAdminUser,
      }),
    adminGetUser: async ({ params }) => {
      const user = await findUser(db, parseId('user', params.user_id));
      if (!user) throw new AppError('not_found', 'there is no such person');
      return viewAdminUser(user);
    },
    adminListMails: ({ query }) =>
      pageById(query, {
        kind: 'mail',
        list: (range) => listMails(db, range),
        idOf: ({ id }) => id,
        view: viewAdminMail,
      }),
    adminListTeams: ({ query }) =>
      pageById(query, {
        kind: 'team',
        list: (range) => listTeams(db, { ...range, search: query.search }),
        idOf: ({ id }) => id,
        view: viewAdminTeam,
      }),
    adminListSandboxes: ({ query }) =>
      pageById(query, {
        kind: 'sandbox',
        list: (range) => listSandboxesOfAll(db, range),
        idOf: ({ id }) => id,
        view: viewAdminSandbox,
      }),
    adminListAuditLogs: ({ query }) => readAuditPage(db, { teamId: platformTeamId, scope: null }, query),
  };
}

function userHandlers(
  context: ControlPlaneContext,
): Pick<
  AdminHandlers,
  | 'adminDeleteUser'
  | 'adminRestoreUser'
  | 'adminSetUserActive'
  | 'adminSetUserAdmin'
  | 'adminCreateLink'
  | 'adminRemoveSecondFactor'
> {
  const { database, clock, mailer } = context;
  return {
    adminDeleteUser: async ({ caller, params }) => {
      const userId = parseId('user', params.user_id);
      const now = new Date(clock.now());
      await database.transaction((unit) => deleteUser(unit, context, { caller, userId, now }));
    },
    adminRestoreUser: async ({ caller, params }) => {
      const userId = parseId('user', params.user_id);
      const now = new Date(clock.now());
      await database.transaction((unit) => restoreAccount(unit, { userId, actor: caller.actor, now }));
    },
    adminSetUserActive: async ({ caller, params, body: { active: isActive } }) => {
      const userId = parseId('user', params.user_id);
      const now = new Date(clock.now());
      await database.transaction((unit) => setUserActive(unit, caller, { userId, isActive, now }));
      if (!isActive) await pauseDeactivated(context);
    },
    adminSetUserAdmin: async ({ caller, params, body: { admin: isAdmin } }) => {
      const userId = parseId('user', params.user_id);
      const now = new Date(clock.now());
      await database.transaction((unit) => setUserAdmin(unit, caller, { userId, isAdmin, now }));
    },
    adminCreateLink: ({ caller, params, body: { purpose } }) => {
      const userId = parseId('user', params.user_id);
      const now = new Date(clock.now());
      return database.transaction((unit) => createLink(unit, caller, { userId, purpose, now, mailer }));
    },
    adminRemoveSecondFactor: async ({ caller, params }) => {
      const userId = parseId('user', params.user_id);
      await database.transaction((unit) => removeSecondFactor(context, unit, { caller, userId }));
    },
  };
}

function teamHandlers({ database, teamDeletion }: ControlPlaneContext): Pick<AdminHandlers, 'adminDeleteTeam'> {
  return {
    adminDeleteTeam: async ({ caller: { actor }, params }) => {
      const teamId = parseId('team', params.team_id);
      await database.transaction((unit) => teamDeletion.deleteTeam(unit, { teamId, actor }));
    },
  };
}
