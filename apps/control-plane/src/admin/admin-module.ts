import { type AdminUser, adminRoutes } from '@aviary/api-contract';
import { AppError, formatId, parseId, platformTeamId } from '@aviary/core';
import type { FastifyInstance } from 'fastify';
import { restoreAccount } from '../accounts/restore-account.ts';
import { readAuditPage } from '../audit/read-audit.ts';
import { joinCursor, pageOf, splitCursor } from '../http/cursor.ts';
import { registerRoutes } from '../http/register-routes.ts';
import { listMails } from '../mail/mail-store.ts';
import type { ControlPlaneContext, Module } from '../module.ts';
import { listSandboxesOfAll } from '../sandboxes/sandbox-store.ts';
import { viewSandbox } from '../sandboxes/sandbox-view.ts';
import { showSlug } from '../teams/team-view.ts';
import { findUser, listTeams, listUsers, type UserRow } from './admin-store.ts';
import { deleteUser, removeSecondFactor, setUserActive, setUserAdmin } from './change-user.ts';
import { createLink } from './create-link.ts';
import { pauseDeactivated, runPausing } from './pause-deactivated.ts';

/** What those who look after the platform see and do of people and teams. */
export const adminModule: Module = {
  name: 'admin',
  routes: registerAdminRoutes,
  loops: (context) => [(signal) => runPausing(context, signal)],
};

function registerAdminRoutes(app: FastifyInstance, context: ControlPlaneContext): void {
  const { database, clock, teamDeletion, mailer } = context;
  registerRoutes(app, context, {
    table: adminRoutes,
    handlers: {
      adminListUsers: async ({ query: { limit = 50, search, cursor } }) => {
        const [before] = splitCursor(cursor);
        const from = before === undefined ? {} : { before: parseId('user', before, 'cursor') };
        return pageOf(await listUsers(database.db, { limit: limit + 1, search, ...from }), {
          limit,
          view: viewAdminUser,
          cursorOf: ({ id }) => joinCursor(formatId('user', id)),
        });
      },
      adminGetUser: async ({ params }) => {
        const user = await findUser(database.db, parseId('user', params.user_id));
        if (!user) throw new AppError('not_found', 'there is no such person');
        return viewAdminUser(user);
      },
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
        await database.transaction((unit) => setUserAdmin(unit, caller, { userId, isAdmin }));
      },
      adminCreateLink: ({ caller, params, body: { purpose } }) => {
        const userId = parseId('user', params.user_id);
        const now = new Date(clock.now());
        return database.transaction((unit) => createLink(unit, caller, { userId, purpose, now, mailer }));
      },
      adminListMails: async ({ query: { limit = 50, cursor } }) => {
        const [before] = splitCursor(cursor);
        const from = before === undefined ? {} : { before: parseId('mail', before, 'cursor') };
        return pageOf(await listMails(database.db, { limit: limit + 1, ...from }), {
          limit,
          view: ({ id, next_attempt_at, created_at, expires_at, ...row }) => ({
            ...row,
            id: formatId('mail', id),
            next_attempt_at: row.state === 'waiting' ? next_attempt_at.toISOString() : null,
            created_at: created_at.toISOString(),
            expires_at: expires_at.toISOString(),
          }),
          cursorOf: ({ id }) => joinCursor(formatId('mail', id)),
        });
      },
      adminRemoveSecondFactor: async ({ caller, params }) => {
        const userId = parseId('user', params.user_id);
        await database.transaction((unit) => removeSecondFactor(context, unit, { caller, userId }));
      },
      adminListTeams: async ({ query: { limit = 50, search, cursor } }) => {
        const [before] = splitCursor(cursor);
        const from = before === undefined ? {} : { before: parseId('team', before, 'cursor') };
        return pageOf(await listTeams(database.db, { limit: limit + 1, search, ...from }), {
          limit,
          view: ({ id, slug, created_at, deleted_at, ...row }) => ({
            ...row,
            id: formatId('team', id),
            slug: showSlug(slug),
            created_at: created_at.toISOString(),
            deleted_at: deleted_at?.toISOString() ?? null,
          }),
          cursorOf: ({ id }) => joinCursor(formatId('team', id)),
        });
      },
      adminDeleteTeam: async ({ caller: { actor }, params }) => {
        const teamId = parseId('team', params.team_id);
        await database.transaction((unit) => teamDeletion.deleteTeam(unit, { teamId, actor }));
      },
      adminListSandboxes: async ({ query: { limit = 50, cursor } }) => {
        const [before] = splitCursor(cursor);
        const from = before === undefined ? {} : { before: parseId('sandbox', before, 'cursor') };
        return pageOf(await listSandboxesOfAll(database.db, { limit: limit + 1, ...from }), {
          limit,
          view: ({ team_name, ...sandbox }) => ({
            team_id: formatId('team', sandbox.team_id),
            team_name: team_name ?? '',
            sandbox: viewSandbox(sandbox),
          }),
          cursorOf: ({ id }) => joinCursor(formatId('sandbox', id)),
        });
      },
      adminListAuditLogs: ({ query }) => readAuditPage(database.db, { teamId: platformTeamId, scope: null }, query),
    },
  });
}

function viewAdminUser({ id, created_at, deleted_at, ...row }: UserRow): AdminUser {
  return {
    ...row,
    id: formatId('user', id),
    created_at: created_at.toISOString(),
    deleted_at: deleted_at?.toISOString() ?? null,
  };
}
