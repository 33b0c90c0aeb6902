import type { Logger } from '@aviary/service-kit';
import * as oidc from 'openid-client';
import { boundedFetch } from './bounded-fetch.ts';
import { Discovery } from './discovery.ts';
import { askProvider, type Profile, type ProviderClient, type ProviderTimes } from './identity-provider.ts';
import { isLoopback, type ProviderSettings } from './provider-settings.ts';

/** Signs people in at a server that speaks OpenID Connect, by its code flow with PKCE, state and nonce. */
export function createOidcClient(
  times: ProviderTimes & { logger: Logger },
  settings: ProviderSettings,
): ProviderClient {
  const discovery = new Discovery(times, { name: settings.name, discover: () => discover(times, settings) });
  return {
    async authorizationUrl({ state, nonce, codeVerifier }, redirectUri) {
      return oidc.buildAuthorizationUrl(await discovery.get(), {
        redirect_uri: redirectUri,
        scope: settings.scopes.join(' '),
        state,
        nonce,
        code_challenge: await oidc.calculatePKCECodeChallenge(codeVerifier),
        code_challenge_method: 'S256',
      });
    },
    identify: (url, { state, nonce, codeVerifier }) =>
      askProvider(times, async () => {
        const server = await discovery.get();
        const tokens = await oidc.authorizationCodeGrant(server, url, {
          expectedState: state,
          expectedNonce: nonce,
          pkceCodeVerifier: codeVerifier,
          idTokenExpected: true,
        });
        return await readProfile(server, tokens);
      }),
  };
}

function discover({ requestMs }: ProviderTimes, settings: ProviderSettings): Promise<oidc.Configuration> {
  const issuer = new URL(settings.issuer);
  return oidc.discovery(issuer, settings.clientId, undefined, clientAuth(settings.clientSecret), {
    [oidc.customFetch]: boundedFetch,
    timeout: requestMs / 1000,
    execute: [
      // An id token comes straight from the provider, by TLS; its signature is looked at all the same.
      oidc.enableNonRepudiationChecks,
      ...(isLoopback(issuer) ? [oidc.allowInsecureRequests] : []),
    ],
  });
}

/** Shows the secret in a way that the server takes; one that does not say takes HTTP Basic (OpenID Connect Discovery 1.0, 3). */
function clientAuth(secret: string): oidc.ClientAuth {
  const [basic, post] = [oidc.ClientSecretBasic(secret), oidc.ClientSecretPost(secret)];
  return (server, ...request) => {
    const { token_endpoint_auth_methods_supported: methods = ['client_secret_basic'] } = server;
    return methods.includes('client_secret_post') ? post(server, ...request) : basic(server, ...request);
  };
}

type Tokens = Awaited<ReturnType<typeof oidc.authorizationCodeGrant>>;

/** Many servers put into the id token no more than who it is, and tell the rest when they are asked with the access token. */
async function readProfile(server: oidc.Configuration, tokens: Tokens): Promise<Profile> {
  const claims = tokens.claims();
  const { issuer, userinfo_endpoint: hasMore } = server.serverMetadata();
  // Some servers sign for issuers other than the one that was asked (one per customer of theirs): whom those vouch for is not ours to say.
  if (!claims || claims.iss !== issuer) throw new Error(`the id token is of another issuer: ${claims?.iss}`);
  const isWhole = claims['email'] !== undefined && claims['email_verified'] !== undefined;
  const more = isWhole || !hasMore ? {} : await oidc.fetchUserInfo(server, tokens.access_token, claims.sub);
  const { sub, email, email_verified: isVerified, name }: oidc.UserInfoResponse = { ...more, ...claims };
  return {
    subject: sub,
    email: textOf(email),
    // One of the large servers writes it as text.
    isEmailVerified: isVerified === true || (isVerified as unknown) === 'true',
    name: textOf(name),
  };
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null;
}
