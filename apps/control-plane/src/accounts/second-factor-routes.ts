import { secondFactorRoutes } from '@aviary/api-contract';
import type { FastifyInstance } from 'fastify';
import { type ApiDeps, registerRoutes } from '../http/register-routes.ts';
import { beginTotp, confirmTotp, disableTotp, renewRecoveryCodes } from '../second-factors/enrol-totp.ts';
import type { AccountDeps } from './account-deps.ts';
import { confirmOwner } from './confirm-owner.ts';

/** What a person shows beside their password: codes of an app, and recovery codes. */
export function registerSecondFactorRoutes(app: FastifyInstance, deps: ApiDeps & AccountDeps): void {
  registerRoutes(app, deps, {
    table: secondFactorRoutes,
    handlers: {
      beginTotp: async ({ caller, body, request }) => {
        await confirmOwner(deps, caller, { ...body, ipAddress: request.ip });
        return beginTotp(deps, caller, deps.accounts.settings.publicUrl);
      },
      confirmTotp: async ({ caller, body }) => {
        return { recovery_codes: await confirmTotp(deps, caller, body.code) };
      },
      disableTotp: async ({ caller, body, request }) => {
        await confirmOwner(deps, caller, { ...body, ipAddress: request.ip });
        await disableTotp(deps, caller);
      },
      renewRecoveryCodes: async ({ caller, body, request }) => {
        await confirmOwner(deps, caller, { ...body, ipAddress: request.ip });
        return { recovery_codes: await renewRecoveryCodes(deps, caller) };
      },
    },
  });
}
