import { type Me, meRoutes, type UserSession } from '@aviary/api-contract';
import { AppError, formatId, parseId, platformTeamId } from '@aviary/core';
import type { FastifyInstance } from 'fastify';
import { recordAudit } from '../audit/audit-store.ts';
import { type ApiDeps, registerRoutes, type UserCaller } from '../http/register-routes.ts';
import { findSecondFactor } from '../second-factors/second-factor-store.ts';
import type { AccountDeps } from './account-deps.ts';
import { findMembership, getAccount, updateAccount } from './account-store.ts';
import { viewSecondFactor, viewSessionTeam, viewUser } from './account-view.ts';
import { changePassword } from './change-password.ts';
import { maxSessions } from './open-session.ts';
import { confirmPasswordReset, requestPasswordReset } from './reset-password.ts';
import { type ListedSession, listSessions, revokeSessions } from './session-store.ts';

/** A signed-in person's own account. */
export function registerMeRoutes(app: FastifyInstance, deps: ApiDeps & AccountDeps): void {
  const { database, clock } = deps;
  registerRoutes(app, deps, {
    table: meRoutes,
    handlers: {
      getMe: ({ caller }) => viewMe(deps, caller),
      updateMe: async ({ caller, body }) => {
        const now = new Date(clock.now());
        await database.transaction(async ({ db }) => {
          await updateAccount(db, caller.userId, { name: body.name.trim(), now });
          await recordAudit(db, {
            teamId: platformTeamId,
            actor: caller.actor,
            action: 'user.update',
            resourceId: caller.userId,
            metadata: { name: body.name.trim() },
          });
        });
        return viewMe(deps, caller);
      },
      changePassword: async ({ caller, body, request }) => {
        await changePassword(deps, caller, {
          current: body.current_password,
          wanted: body.new_password,
          code: body.code,
          ipAddress: request.ip,
        });
      },
      requestPasswordReset: async ({ body, request }) => {
        await requestPasswordReset(deps, body.email, request.ip);
      },
      confirmPasswordReset: async ({ body, request }) => {
        await confirmPasswordReset(deps, { secret: body.token, password: body.new_password }, request.ip);
      },
      listMySessions: async ({ caller }) => {
        const now = new Date(clock.now());
        const sessions = await listSessions(database.db, { userId: caller.userId, limit: maxSessions, now });
        return { items: sessions.map((session) => viewSession(session, caller)) };
      },
      revokeMySession: async ({ caller, params }) => {
        const id = parseId('session', params.id, 'id');
        const now = new Date(clock.now());
        await database.transaction(async ({ db }) => {
          const ended = await revokeSessions(db, { userId: caller.userId, id, reason: 'revoked', now });
          if (ended.length === 0) throw new AppError('not_found', 'there is no such session');
          await recordAudit(db, {
            teamId: platformTeamId,
            actor: caller.actor,
            action: 'user.session_revoke',
            resourceId: caller.userId,
            metadata: { session_id: id },
          });
        });
      },
    },
  });
}

async function viewMe({ database }: AccountDeps, caller: UserCaller): Promise<Me> {
  const account = await getAccount(database.db, caller.userId);
  const preferred = caller.currentTeamId;
  const membership = await findMembership(database.db, { userId: caller.userId, preferred });
  return {
    ...viewUser(account),
    has_password: account.password_hash !== null,
    second_factor: viewSecondFactor(await findSecondFactor(database.db, account.id)),
    team: viewSessionTeam(membership?.teamId === preferred ? membership : undefined),
  };
}

function viewSession(session: ListedSession, caller: UserCaller): UserSession {
  return {
    id: formatId('session', session.id),
    is_current: session.id === caller.sessionId,
    user_agent: session.user_agent,
    ip_address: session.ip_address,
    created_at: session.created_at.toISOString(),
    last_seen_at: session.last_seen_at.toISOString(),
    expires_at: session.expires_at.toISOString(),
  };
}
