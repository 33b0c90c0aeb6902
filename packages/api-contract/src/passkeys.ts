import { type Static, Type } from 'typebox';
import { byAnyone, byUser } from './access.ts';
import { displayName, refreshTokenIn, SignedIn } from './accounts.ts';
import { component } from './component.ts';
import { closed, nullable, timestamp, wireId } from './fields.ts';
import type { RouteTable } from './route.ts';
import { OwnerProof } from './second-factors.ts';

const base64url = (maxLength: number) => Type.String({ minLength: 1, maxLength, pattern: '^[A-Za-z0-9_-]+$' });

/** What a credential of both kinds has; browsers add more, which is not looked at. */
const credential = {
  id: base64url(1_400),
  rawId: base64url(1_400),
  type: Type.Enum(['public-key']),
};
const asToJson = 'As `toJSON()` of the credential gives it in browsers.';

export const NewPasskeyCredential = component(
  'NewPasskeyCredential',
  Type.Object(
    {
      ...credential,
      response: Type.Object({
        clientDataJSON: base64url(8_192),
        attestationObject: base64url(32_768),
        transports: Type.Optional(Type.Array(Type.String({ pattern: '^[a-z-]{1,32}$' }), { maxItems: 10 })),
      }),
    },
    { description: asToJson },
  ),
);
export type NewPasskeyCredential = Static<typeof NewPasskeyCredential>;

export const PasskeyAssertion = component(
  'PasskeyAssertion',
  Type.Object(
    {
      ...credential,
      response: Type.Object({
        clientDataJSON: base64url(8_192),
        authenticatorData: base64url(8_192),
        signature: base64url(8_192),
        userHandle: Type.Optional(nullable(base64url(128))),
      }),
    },
    { description: asToJson },
  ),
);
export type PasskeyAssertion = Static<typeof PasskeyAssertion>;

const forBrowsers = (method: string) =>
  `Options of WebAuthn, for \`PublicKeyCredential.${method}\`. The challenge is good once, for five minutes.`;

export const PasskeyCreationOptions = component(
  'PasskeyCreationOptions',
  Type.Object(
    {
      challenge: Type.String(),
      rp: Type.Object({ id: Type.String(), name: Type.String() }),
      user: Type.Object({ id: Type.String(), name: Type.String(), displayName: Type.String() }),
      pubKeyCredParams: Type.Array(Type.Object({ alg: Type.Integer(), type: Type.Enum(['public-key']) })),
      excludeCredentials: Type.Array(
        Type.Object({ id: Type.String(), type: Type.Enum(['public-key']), transports: Type.Array(Type.String()) }),
      ),
      authenticatorSelection: Type.Object({
        residentKey: Type.String(),
        requireResidentKey: Type.Boolean(),
        userVerification: Type.String(),
      }),
      attestation: Type.String(),
      timeout: Type.Integer(),
    },
    { description: forBrowsers('parseCreationOptionsFromJSON') },
  ),
);

export type PasskeyCreationOptions = Static<typeof PasskeyCreationOptions>;

export const PasskeyRequestOptions = component(
  'PasskeyRequestOptions',
  Type.Object(
    {
      challenge: Type.String(),
      rpId: Type.String(),
      userVerification: Type.String(),
      timeout: Type.Integer(),
    },
    { description: forBrowsers('parseRequestOptionsFromJSON') },
  ),
);

export type PasskeyRequestOptions = Static<typeof PasskeyRequestOptions>;

export const Passkey = component(
  'Passkey',
  Type.Object({
    id: wireId('passkey'),
    name: Type.String(),
    is_synced: Type.Boolean({ description: "Its owner's devices share it." }),
    created_at: timestamp,
    last_used_at: nullable(timestamp),
  }),
);
export type Passkey = Static<typeof Passkey>;

export const AddPasskey = component(
  'AddPasskey',
  Type.Object({ name: Type.Optional(displayName), credential: NewPasskeyCredential }, closed),
);
export type AddPasskey = Static<typeof AddPasskey>;

export const PasskeyLogIn = component(
  'PasskeyLogIn',
  Type.Object({ credential: PasskeyAssertion, refresh_token_in: refreshTokenIn }, closed),
);
export type PasskeyLogIn = Static<typeof PasskeyLogIn>;

const tag = 'accounts';
const access = byUser;
const params = Type.Object({ id: wireId('passkey') });
const siteWords = 'Passkeys belong to the host name of `AVIARY_PUBLIC_URL`; at a bare address there are none (409).';

/** Signing in with a key that is kept in one's device instead of a password. */
export const passkeyRoutes = {
  beginPasskeyLogIn: {
    tag,
    access: byAnyone,
    method: 'POST',
    path: '/v1/auth/passkey/options',
    summary: 'Begin to log in with a passkey',
    description: `The authenticator says whose it is: no address is asked for. ${siteWords}`,
    replies: { 200: PasskeyRequestOptions },
    errors: [409, 429],
  },
  logInWithPasskey: {
    tag,
    access: byAnyone,
    isForOwnPages: true,
    method: 'POST',
    path: '/v1/auth/passkey',
    summary: 'Log in with a passkey',
    description:
      'The authenticator must have verified its user: so it is both factors, and no code is asked for. One whose signatures are counted and whose count falls back is a copy, and refused.',
    body: PasskeyLogIn,
    replies: { 200: SignedIn },
    errors: [401, 403, 409, 429],
  },
  beginPasskey: {
    tag,
    access,
    method: 'POST',
    path: '/v1/me/passkeys/options',
    summary: 'Begin to add a passkey',
    description: siteWords,
    body: OwnerProof,
    isBodyOptional: true,
    replies: { 200: PasskeyCreationOptions },
    errors: [409, 429],
  },
  addPasskey: {
    tag,
    access,
    method: 'POST',
    path: '/v1/me/passkeys',
    summary: 'Add a passkey',
    description: 'An account has at most 50.',
    body: AddPasskey,
    replies: { 201: Passkey },
    errors: [409],
  },
  listPasskeys: {
    tag,
    access,
    method: 'GET',
    path: '/v1/me/passkeys',
    summary: 'List your passkeys',
    description: 'Newest first.',
    replies: { 200: component('PasskeyItems', Type.Object({ items: Type.Array(Passkey) })) },
  },
  renamePasskey: {
    tag,
    access,
    method: 'PATCH',
    path: '/v1/me/passkeys/{id}',
    summary: 'Rename a passkey',
    params,
    body: component('RenamePasskey', Type.Object({ name: displayName }, closed)),
    replies: { 200: Passkey },
  },
  deletePasskey: {
    tag,
    access,
    method: 'DELETE',
    path: '/v1/me/passkeys/{id}',
    summary: 'Remove a passkey',
    description: 'Not the last way in which you can sign in (409).',
    params,
    replies: { 204: null },
    errors: [409],
  },
} as const satisfies RouteTable;
