import { type Static, Type } from 'typebox';
import { byAnyone, byUser } from './access.ts';
import { refreshTokenIn, SecondFactorNeeded, SignedIn, secondFactorWords, secret } from './accounts.ts';
import { component } from './component.ts';
import { closed, nullable, timestamp, wireId } from './fields.ts';
import type { RouteTable } from './route.ts';
import { OwnerProof } from './second-factors.ts';

/** The name of a provider in paths, as who runs the platform chose it. */
const providerIdSource = '[a-z0-9][a-z0-9-]{0,31}';
export const providerId = Type.String({ pattern: `^${providerIdSource}$` });

/** Why a sign-in at a provider came to nothing: what a page or a program gets as `error`, with its words as `error_description`. */
export const signInErrors = {
  access_denied: 'the provider was told not to sign you in; begin again to try once more',
  provider_unavailable: 'the provider does not answer; try again in a moment, or sign in another way',
  provider_refused: 'the provider gave no valid answer; begin again, and tell who runs the platform if it stays so',
  email_unverified:
    'the provider vouches for no e-mail address of yours; verify one there, or sign up here and link the two in your account',
  email_taken:
    'there is an account with your e-mail address that is not linked with this provider; log in to it as before, or reset its password, and link the two there',
  account_deactivated: 'this account is deactivated; ask who runs the platform',
  identity_taken: 'another account is linked with this one of the provider; unlink it there first',
  session_ended: 'the session that began to link has ended; log in and begin again',
} as const;
export type SignInError = keyof typeof signInErrors;

export const IdentityProvider = component(
  'IdentityProvider',
  Type.Object({
    id: Type.String(),
    kind: Type.Enum(['oidc', 'github']),
    name: Type.String({ description: 'For people.' }),
    start_url: Type.String({
      description:
        'Where a browser begins: under the address to which the provider sends it back, for the cookie to be there.',
    }),
  }),
);
export type IdentityProvider = Static<typeof IdentityProvider>;

export const IdentityProviderItems = component(
  'IdentityProviderItems',
  Type.Object({ items: Type.Array(IdentityProvider) }),
);

/** Where a sign-in ends: a page of this site, or a program that listens on the same machine as the browser. */
const signInTarget = {
  return_to: Type.Optional(
    Type.String({
      maxLength: 1024,
      pattern: '^/[^\\u0000]*$',
      description: 'The page of this site to come back to, as a path. Default `/`.',
    }),
  ),
  redirect_port: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: 65_535,
      description:
        'For programs instead of `return_to`: come back to `http://127.0.0.1:{redirect_port}/callback`, where one listens. Needs `code_challenge`.',
    }),
  ),
  code_challenge: Type.Optional(
    Type.String({
      pattern: '^[A-Za-z0-9_-]{43}$',
      description: 'SHA-256 in base64url of the `code_verifier` that only the program knows (S256 of RFC 7636).',
    }),
  ),
};

export const StartSignIn = component('StartSignIn', Type.Object(signInTarget, closed));
export type StartSignIn = Static<typeof StartSignIn>;

export const StartedSignIn = component(
  'StartedSignIn',
  Type.Object({
    authorization_url: Type.String({ description: 'Where the browser goes next.' }),
    expires_at: timestamp,
  }),
);

export const ExchangeSignInCode = component(
  'ExchangeSignInCode',
  Type.Object(
    {
      code: secret,
      code_verifier: Type.Optional(Type.String({ pattern: '^[A-Za-z0-9._~-]{43,128}$' })),
      refresh_token_in: refreshTokenIn,
    },
    closed,
  ),
);
export type ExchangeSignInCode = Static<typeof ExchangeSignInCode>;

const tag = 'accounts';
const params = Type.Object({ provider: providerId });

const startWords =
  'What comes back to `return_to` (or to the program) has either `code`, for `POST /v1/auth/exchange` within a minute, or `error` and `error_description`: ' +
  `${Object.keys(signInErrors).join(', ')}. It must come back to the browser that began, within ten minutes.`;

/** Signing in at a provider. */
export const signInRoutes = {
  listIdentityProviders: {
    tag,
    access: byAnyone,
    method: 'GET',
    path: '/v1/auth/providers',
    summary: 'List where one can sign in instead of by password',
    replies: { 200: IdentityProviderItems },
  },
  openSignIn: {
    tag,
    access: byAnyone,
    method: 'GET',
    path: '/v1/auth/providers/{provider}/start',
    summary: 'Go to a provider and sign in there',
    description: `For a link, or a browser that a program opens. ${startWords}`,
    params,
    query: Type.Object(signInTarget),
    replies: { 303: null },
    errors: [503],
  },
  startSignIn: {
    tag,
    access: byAnyone,
    isForOwnPages: true,
    method: 'POST',
    path: '/v1/auth/providers/{provider}/start',
    summary: 'Begin to sign in at a provider',
    description: `As by link, for pages that go there themselves. ${startWords}`,
    params,
    body: StartSignIn,
    isBodyOptional: true,
    replies: { 200: StartedSignIn },
    errors: [503],
  },
  finishSignIn: {
    tag,
    access: byAnyone,
    method: 'GET',
    path: '/v1/auth/providers/{provider}/callback',
    summary: 'Come back from a provider',
    description:
      'Where providers send the browser: to be registered there as the redirect URI. An account is made for somebody unknown with a verified e-mail address; one that has the address already is never taken over, its owner logs in and links.',
    params,
    query: Type.Object({
      state: Type.Optional(Type.String({ maxLength: 256 })),
      code: Type.Optional(Type.String({ maxLength: 4096 })),
      error: Type.Optional(Type.String({ maxLength: 256 })),
      iss: Type.Optional(Type.String({ maxLength: 1024 })),
    }),
    replies: { 303: null },
  },
  exchangeSignInCode: {
    tag,
    access: byAnyone,
    isForOwnPages: true,
    method: 'POST',
    path: '/v1/auth/exchange',
    summary: 'Open a session after signing in at a provider',
    description:
      'With the `code` that came back, which is good once: for the browser that began, by its cookie, or for the program, by `code_verifier`. ' +
      secondFactorWords,
    body: ExchangeSignInCode,
    replies: { 200: SignedIn, 202: SecondFactorNeeded },
    errors: [401, 403],
  },
} as const satisfies RouteTable;

export const Identity = component(
  'Identity',
  Type.Object({
    id: wireId('identity'),
    provider: Type.Union([providerId, Type.Null()], {
      description: 'Null when the platform does not have it any more.',
    }),
    issuer: Type.String({ description: 'The server that vouches.' }),
    email: nullable(Type.String({ description: 'As the provider said it last.' })),
    created_at: timestamp,
    last_used_at: timestamp,
  }),
);
export type Identity = Static<typeof Identity>;

export const IdentityItems = component('IdentityItems', Type.Object({ items: Type.Array(Identity) }));

export const LinkIdentity = component(
  'LinkIdentity',
  Type.Object(
    {
      provider: providerId,
      return_to: signInTarget.return_to,
      ...OwnerProof.properties,
    },
    closed,
  ),
);
export type LinkIdentity = Static<typeof LinkIdentity>;

/** What a signed-in person is at providers. */
export const identityRoutes = {
  listMyIdentities: {
    tag,
    access: byUser,
    method: 'GET',
    path: '/v1/me/identities',
    summary: 'List what your account is linked with',
    replies: { 200: IdentityItems },
  },
  linkIdentity: {
    tag,
    access: byUser,
    method: 'POST',
    path: '/v1/me/identities',
    summary: 'Begin to link your account with one at a provider',
    description:
      'From then on you can sign in there as well. Needs your password or a code of your second factor, where you have one. Comes back to `return_to` with `linked` (the provider), or with `error` and `error_description`.',
    body: LinkIdentity,
    replies: { 200: StartedSignIn },
    errors: [404, 429, 503],
  },
  unlinkIdentity: {
    tag,
    access: byUser,
    method: 'DELETE',
    path: '/v1/me/identities/{id}',
    summary: 'Unlink your account from one at a provider',
    description: 'Refused with 409 when it is the last way in which you can sign in: set a password first.',
    params: Type.Object({ id: wireId('identity') }),
    replies: { 204: null },
    errors: [409],
  },
} as const satisfies RouteTable;
