import { type Static, Type } from 'typebox';
import { byUser } from './access.ts';
import { secondFactorCode } from './accounts.ts';
import { component } from './component.ts';
import { closed } from './fields.ts';
import type { RouteTable } from './route.ts';

export const OwnerProof = component(
  'OwnerProof',
  Type.Object(
    {
      password: Type.Optional(Type.String({ minLength: 1, maxLength: 256 })),
      code: Type.Optional(secondFactorCode),
    },
    {
      ...closed,
      description:
        'Shows once more that it is you: one of these that the account has. One that has neither shows nothing.',
    },
  ),
);
export type OwnerProof = Static<typeof OwnerProof>;

export const TotpEnrolment = component(
  'TotpEnrolment',
  Type.Object({
    secret: Type.String({ description: 'In base32, for apps into which it is typed.' }),
    otpauth_uri: Type.String({ description: 'For apps that scan it as a QR code.' }),
  }),
);

export const RecoveryCodes = component(
  'RecoveryCodes',
  Type.Object({
    recovery_codes: Type.Array(Type.String(), {
      description: 'Ten; each stands in for a code of the app once. They are shown this once.',
    }),
  }),
);

const tag = 'accounts';
const access = byUser;

/** The second factor of a signed-in person: an app that shows codes, and recovery codes. */
export const secondFactorRoutes = {
  beginTotp: {
    tag,
    access,
    method: 'POST',
    path: '/v1/me/totp',
    summary: 'Set up an app that shows one-time codes',
    description:
      'Nothing asks for its codes before `POST /v1/me/totp/confirm`. Doing it again makes another secret, and the one before is void.',
    body: OwnerProof,
    isBodyOptional: true,
    replies: { 201: TotpEnrolment },
    errors: [409, 429],
  },
  confirmTotp: {
    tag,
    access,
    method: 'POST',
    path: '/v1/me/totp/confirm',
    summary: 'Show that the app is set up',
    description: 'From now on log-ins ask for a code.',
    body: component('ConfirmTotp', Type.Object({ code: secondFactorCode }, closed)),
    replies: { 200: RecoveryCodes },
    errors: [409, 429],
  },
  disableTotp: {
    tag,
    access,
    method: 'POST',
    path: '/v1/me/totp/disable',
    summary: 'Log in without codes again',
    description: 'The recovery codes go with it.',
    body: OwnerProof,
    isBodyOptional: true,
    replies: { 204: null },
    errors: [409, 429],
  },
  renewRecoveryCodes: {
    tag,
    access,
    method: 'POST',
    path: '/v1/me/recovery-codes',
    summary: 'Make new recovery codes',
    description: 'Those that there were are void.',
    body: OwnerProof,
    isBodyOptional: true,
    replies: { 200: RecoveryCodes },
    errors: [409, 429],
  },
} as const satisfies RouteTable;
