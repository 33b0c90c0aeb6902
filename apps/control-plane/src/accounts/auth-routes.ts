import { authRoutes } from '@aviary/api-contract';
import { parseId, platformTeamId } from '@aviary/core';
import type { FastifyInstance } from 'fastify';
import { recordAudit } from '../audit/audit-store.ts';
import { type ApiDeps, registerRoutes } from '../http/register-routes.ts';
import type { AccountDeps } from './account-deps.ts';
import { claimPlatform } from './claim-platform.ts';
import { completeLogIn } from './complete-log-in.ts';
import { logIn } from './log-in.ts';
import { logOut, refreshSession, switchTeam } from './refresh-session.ts';
import { clearCookie, deliver, readDevice, readRefreshToken } from './session-cookie.ts';
import { revokeSessions } from './session-store.ts';
import { deliverSignIn } from './sign-in.ts';
import { signUp } from './sign-up.ts';
import { requestVerification, verifyEmail } from './verify-email.ts';

/** Signing up and in, and keeping a session. */
export function registerAuthRoutes(
  app: FastifyInstance,
  deps: ApiDeps & AccountDeps & { dataDirectory: string },
): void {
  const { settings } = deps.accounts;
  registerRoutes(app, deps, {
    table: authRoutes,
    handlers: {
      signUp: async ({ body, request, reply }) => {
        const issued = await signUp(deps, body, readDevice(request));
        return deliver(settings, reply, { ...issued, to: body.refresh_token_in ?? 'cookie' });
      },
      claimPlatform: async ({ body, request, reply }) => {
        const result = await claimPlatform(deps, body, readDevice(request));
        return deliverSignIn(settings, reply, { result, to: body.refresh_token_in, status: 201 });
      },
      logIn: async ({ body, request, reply }) => {
        const result = await logIn(deps, body, readDevice(request));
        return deliverSignIn(settings, reply, { result, to: body.refresh_token_in, status: 200 });
      },
      completeLogIn: async ({ body, request, reply }) => {
        const issued = await completeLogIn(deps, body, readDevice(request));
        return deliver(settings, reply, { ...issued, to: body.refresh_token_in ?? 'cookie' });
      },
      refreshSession: async ({ body, request, reply }) => {
        const { token, to } = readRefreshToken(settings, request, body.refresh_token);
        return deliver(settings, reply, { ...(await refreshSession(deps, token)), to });
      },
      logOut: async ({ body, request, reply }) => {
        const { token, to } = readRefreshToken(settings, request, body.refresh_token);
        await logOut(deps, token);
        if (to === 'cookie') clearCookie(settings, reply);
      },
      logOutAll: async ({ caller, reply }) => {
        const now = new Date(deps.clock.now());
        await deps.database.transaction(async ({ db }) => {
          const ended = await revokeSessions(db, { userId: caller.userId, reason: 'log_out_all', now });
          await recordAudit(db, {
            teamId: platformTeamId,
            actor: caller.actor,
            action: 'user.log_out',
            resourceId: caller.userId,
            metadata: { sessions: ended.length },
          });
        });
        clearCookie(settings, reply);
      },
      requestVerification: async ({ caller }) => {
        await requestVerification(deps, caller);
      },
      verifyEmail: async ({ body, request }) => {
        await verifyEmail(deps, body.token, request.ip);
      },
      switchTeam: ({ body, caller }) => switchTeam(deps, caller, parseId('team', body.team_id)),
    },
  });
}
