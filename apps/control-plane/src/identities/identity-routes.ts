import { type Identity, identityRoutes } from '@aviary/api-contract';
import { AppError, formatId, parseId } from '@aviary/core';
import type { FastifyInstance } from 'fastify';
import { confirmOwner } from '../accounts/confirm-owner.ts';
import { type ApiDeps, registerRoutes } from '../http/register-routes.ts';
import type { IdentityDeps } from './identity-deps.ts';
import { type ListedIdentity, listIdentities } from './identity-store.ts';
import { unlinkIdentity } from './link-identity.ts';
import { writeSignInCookie } from './sign-in-cookie.ts';
import { ownPage } from './sign-in-target.ts';
import { startSignIn } from './start-sign-in.ts';

const maxListed = 100;

/** What a signed-in person is at providers. */
export function registerIdentityRoutes(app: FastifyInstance, deps: ApiDeps & IdentityDeps): void {
  const { settings } = deps.accounts;
  registerRoutes(app, deps, {
    table: identityRoutes,
    handlers: {
      listMyIdentities: async ({ caller }) => {
        const identities = await listIdentities(deps.database.db, caller.userId, maxListed);
        return { items: identities.map((one) => viewIdentity(deps, one)) };
      },
      linkIdentity: async ({ caller, body, request, reply }) => {
        const returnTo = ownPage(settings.publicUrl, body.return_to ?? '/');
        const { provider, return_to: _page, ...proof } = body;
        await confirmOwner(deps, caller, { ...proof, ipAddress: request.ip });
        const { authorizationUrl, browser, expiresAt } = await startSignIn(deps, {
          provider,
          target: { returnTo, codeChallenge: null },
          sessionId: caller.sessionId,
          ipAddress: request.ip,
        });
        writeSignInCookie(settings, reply, browser);
        return { authorization_url: authorizationUrl, expires_at: expiresAt.toISOString() };
      },
      unlinkIdentity: async ({ caller, params }) => {
        const isUnlinked = await unlinkIdentity(deps, caller, parseId('identity', params.id, 'id'));
        if (!isUnlinked) throw new AppError('not_found', 'your account has no such identity');
      },
    },
  });
}

function viewIdentity({ identityProviders }: IdentityDeps, identity: ListedIdentity): Identity {
  const provider = identityProviders.all.find(({ issuer }) => issuer === identity.issuer);
  return {
    id: formatId('identity', identity.id),
    provider: provider?.id ?? null,
    issuer: identity.issuer,
    email: identity.email,
    created_at: identity.created_at.toISOString(),
    last_used_at: identity.last_used_at.toISOString(),
  };
}
