import { signInRoutes } from '@aviary/api-contract';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { readDevice } from '../accounts/session-cookie.ts';
import { deliverSignIn } from '../accounts/sign-in.ts';
import { type ApiDeps, registerRoutes } from '../http/register-routes.ts';
import { exchangeCode, readHolder } from './exchange-code.ts';
import { finishSignIn } from './finish-sign-in.ts';
import type { IdentityDeps } from './identity-deps.ts';
import { readSignInCookie, writeSignInCookie } from './sign-in-cookie.ts';
import { readTarget } from './sign-in-target.ts';
import { startSignIn, startUrlOf } from './start-sign-in.ts';

/** Signing in at a provider. */
export function registerSignInRoutes(app: FastifyInstance, deps: ApiDeps & IdentityDeps): void {
  const { settings } = deps.accounts;
  const start = async (
    { provider, asked }: { provider: string; asked: Parameters<typeof readTarget>[1] },
    { request, reply }: { request: FastifyRequest; reply: FastifyReply },
  ) => {
    const target = readTarget(settings.publicUrl, asked);
    const started = await startSignIn(deps, { provider, target, sessionId: null, ipAddress: request.ip });
    writeSignInCookie(settings, reply, started.browser);
    return started;
  };
  registerRoutes(app, deps, {
    table: signInRoutes,
    handlers: {
      listIdentityProviders: async () => ({
        items: deps.identityProviders.all.map(({ id, kind, name }) => {
          return { id, kind, name, start_url: startUrlOf(settings.publicUrl, { id }) };
        }),
      }),
      openSignIn: async ({ params, query, ...call }) => {
        const { authorizationUrl } = await start({ provider: params.provider, asked: query }, call);
        call.reply.header('location', authorizationUrl);
      },
      startSignIn: async ({ params, body, ...call }) => {
        const { authorizationUrl, expiresAt } = await start({ provider: params.provider, asked: body }, call);
        return { authorization_url: authorizationUrl, expires_at: expiresAt.toISOString() };
      },
      finishSignIn: async ({ params, query, request, reply }) => {
        reply.header('referrer-policy', 'no-referrer');
        const location = await finishSignIn(deps, {
          provider: params.provider,
          search: request.url.slice(request.url.indexOf('?')),
          state: query.state ?? '',
          browser: readSignInCookie(settings, request),
        });
        reply.header('location', location);
      },
      exchangeSignInCode: async ({ body, request, reply }) => {
        const holder = readHolder(body, readSignInCookie(settings, request));
        const result = await exchangeCode(deps, { code: body.code, holder }, readDevice(request));
        if ('browser' in holder) writeSignInCookie(settings, reply);
        return deliverSignIn(settings, reply, { result, to: body.refresh_token_in, status: 200 });
      },
    },
  });
}
