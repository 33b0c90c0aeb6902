import * as oauth from 'openid-client';
import { Type } from 'typebox';
import { Value } from 'typebox/value';
import { boundedFetch } from './bounded-fetch.ts';
import { askProvider, type Profile, type ProviderClient, type ProviderTimes } from './identity-provider.ts';
import { isLoopback, type ProviderSettings } from './provider-settings.ts';

/** https://docs.github.com/rest/users/users#get-the-authenticated-user */
const GithubUser = Type.Object({
  id: Type.Integer({ minimum: 1 }),
  login: Type.String(),
  name: Type.Optional(Type.Union([Type.String(), Type.Null()])),
});

/** https://docs.github.com/rest/users/emails#list-email-addresses-for-the-authenticated-user */
const GithubEmails = Type.Array(
  Type.Object({ email: Type.String(), primary: Type.Boolean(), verified: Type.Boolean() }),
);

const apiHeaders = { accept: 'application/vnd.github+json', 'x-github-api-version': '2022-11-28' };

/**
 * Signs people in at GitHub, which speaks OAuth 2 without OpenID Connect: who they are is asked of its API.
 * https://docs.github.com/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps
 */
export function createGithubClient(times: ProviderTimes, settings: ProviderSettings): ProviderClient {
  const server = configure(times, settings);
  const read = async (path: string, token: string) => {
    const url = new URL(`${settings.apiUrl}${path}`);
    const answer = await oauth.fetchProtectedResource(server, token, url, 'GET', undefined, new Headers(apiHeaders));
    if (!answer.ok) throw new oauth.ClientError(`GitHub answered ${answer.status} to ${path}`, { cause: answer });
    return await answer.json();
  };
  return {
    async authorizationUrl({ state, codeVerifier }, redirectUri) {
      return oauth.buildAuthorizationUrl(server, {
        redirect_uri: redirectUri,
        scope: settings.scopes.join(' '),
        state,
        code_challenge: await oauth.calculatePKCECodeChallenge(codeVerifier),
        code_challenge_method: 'S256',
      });
    },
    identify: (url, { state, codeVerifier }) =>
      askProvider(times, async () => {
        const checks = { expectedState: state, pkceCodeVerifier: codeVerifier };
        const { access_token: token } = await oauth.authorizationCodeGrant(server, url, checks);
        const [user, emails] = await Promise.all([read('/user', token), read('/user/emails', token)]);
        return viewProfile(Value.Parse(GithubUser, user), Value.Parse(GithubEmails, emails));
      }),
  };
}

function configure({ requestMs }: ProviderTimes, { issuer, clientId, clientSecret }: ProviderSettings) {
  const server = new oauth.Configuration(
    {
      issuer,
      authorization_endpoint: `${issuer}/login/oauth/authorize`,
      token_endpoint: `${issuer}/login/oauth/access_token`,
    },
    clientId,
    undefined,
    oauth.ClientSecretPost(clientSecret),
  );
  server[oauth.customFetch] = boundedFetch;
  server.timeout = requestMs / 1000;
  if (isLoopback(new URL(issuer))) oauth.allowInsecureRequests(server);
  return server;
}

/** The name and the first address may be hidden or not proven; the number stays when somebody is renamed. */
function viewProfile(
  { id, login, name }: { id: number; login: string; name?: string | null },
  emails: { email: string; primary: boolean; verified: boolean }[],
): Profile {
  const proven = emails.filter(({ verified }) => verified);
  const email = proven.find(({ primary }) => primary) ?? proven[0];
  return {
    subject: String(id),
    email: email?.email ?? null,
    isEmailVerified: email !== undefined,
    name: name ?? login,
  };
}
